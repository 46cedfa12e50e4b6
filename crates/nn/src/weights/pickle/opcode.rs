//! The opcodes of pickle protocols 0 to 5, as CPython's `Lib/pickletools.py` documents them.

/// Constants for the opcodes that are read, and a name for every opcode there is, so that a refusal can
/// say what it refused.
macro_rules! opcodes {
    (read { $($read:ident = $read_byte:literal,)* } refused { $($refused:ident = $refused_byte:literal,)* }) => {
        $(pub(super) const $read: u8 = $read_byte;)*

        /// The opcode's name, `None` if there is no such opcode.
        pub(super) fn name(op: u8) -> Option<&'static str> {
            match op {
                $($read_byte => Some(stringify!($read)),)*
                $($refused_byte => Some(stringify!($refused)),)*
                _ => None,
            }
        }
    };
}

opcodes! {
    read {
        MARK = b'(',
        STOP = b'.',
        BININT = b'J',
        BININT1 = b'K',
        BININT2 = b'M',
        NONE = b'N',
        BINPERSID = b'Q',
        REDUCE = b'R',
        BINSTRING = b'T',
        SHORT_BINSTRING = b'U',
        BINUNICODE = b'X',
        APPEND = b'a',
        BUILD = b'b',
        GLOBAL = b'c',
        APPENDS = b'e',
        BINGET = b'h',
        LONG_BINGET = b'j',
        BINPUT = b'q',
        LONG_BINPUT = b'r',
        SETITEM = b's',
        TUPLE = b't',
        SETITEMS = b'u',
        EMPTY_DICT = b'}',
        EMPTY_LIST = b']',
        EMPTY_TUPLE = b')',
        BINFLOAT = b'G',
        PROTO = 0x80,
        NEWOBJ = 0x81,
        TUPLE1 = 0x85,
        TUPLE2 = 0x86,
        TUPLE3 = 0x87,
        NEWTRUE = 0x88,
        NEWFALSE = 0x89,
        LONG1 = 0x8a,
        LONG4 = 0x8b,
        BINBYTES = b'B',
        SHORT_BINBYTES = b'C',
        SHORT_BINUNICODE = 0x8c,
        BINUNICODE8 = 0x8d,
        BINBYTES8 = 0x8e,
        STACK_GLOBAL = 0x93,
        MEMOIZE = 0x94,
        FRAME = 0x95,
    }
    refused {
        POP = b'0',
        POP_MARK = b'1',
        DUP = b'2',
        FLOAT = b'F',
        INT = b'I',
        LONG = b'L',
        PERSID = b'P',
        STRING = b'S',
        UNICODE = b'V',
        DICT = b'd',
        GET = b'g',
        INST = b'i',
        LIST = b'l',
        OBJ = b'o',
        PUT = b'p',
        EXT1 = 0x82,
        EXT2 = 0x83,
        EXT4 = 0x84,
        EMPTY_SET = 0x8f,
        ADDITEMS = 0x90,
        FROZENSET = 0x91,
        NEWOBJ_EX = 0x92,
        BYTEARRAY8 = 0x96,
        NEXT_BUFFER = 0x97,
        READONLY_BUFFER = 0x98,
    }
}
