//! Files that would do harm, or that ask for more than they hold.

use std::io::{Cursor, Write};

use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;

/// A legacy checkpoint whose object is the pickle `object`, with the storages named.
fn legacy(object: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    file.extend(b"\x80\x02");
    file.extend(object);
    file.extend(b".\x80\x02](");
    for (key, _) in storages {
        file.extend(text(key));
    }
    file.extend(b"e.");
    for (_, values) in storages {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    file
}

/// BINUNICODE.
fn text(text: &str) -> Vec<u8> {
    let mut code = vec![b'X'];
    code.extend((text.len() as u32).to_le_bytes());
    code.extend(text.as_bytes());
    code
}

/// Code that leaves `{name: tensor}` for a tensor of the storage `key` with these bytes as offset, shape,
/// strides.
fn state(name: &str, key: &str, stored: u8, view: &[u8]) -> Vec<u8> {
    let storage = [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text(key), &text("cpu")];
    [
        b"}".as_slice(),
        &text(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        &storage.concat(),
        &[b'K', stored],
        b"tQ",
        view,
        b"\x89}tRs",
    ]
    .concat()
}

fn open(bytes: Vec<u8>) -> Result<Weights> {
    Weights::from_bytes(bytes, "w.pth")
}

fn object(code: &[u8]) -> Result<Weights> {
    open(legacy(code, &[]))
}

fn zipped(entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(contents).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)
}

#[test]
fn a_pickle_that_would_run_a_program_is_refused_by_name() {
    for file in ["refused_zip.pth", "refused_protocol4.pth", "refused_legacy.pth"] {
        let bytes = fixture(file);
        let text = message(Weights::from_bytes(bytes.clone(), file), ErrorKind::Unsupported);
        let start =
            format!("{file}: uses `posix.system`, which is not among the names a checkpoint may use (byte ");
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("Nothing was executed."), "{text}");
        // The byte is that of the opcode that imports: `c` before the name, or 0x93 after it.
        let at: usize = text[start.len()..].split(' ').next().unwrap().parse().unwrap();
        let name = bytes.windows(6).position(|w| w == b"system").unwrap();
        assert!(matches!(bytes[at], b'c' | 0x93) && at.abs_diff(name) < 16, "{at} and {name}");
    }
}

#[test]
fn the_files_made_here_are_sound_but_for_what_is_wrong_in_them() {
    let file = legacy(&state("w", "k", 4, b"K\x00K\x02K\x02\x86K\x01K\x02\x86"), &[("k", &[1., 2., 3., 4.])]);
    assert_eq!(open(file).unwrap().take("w", &[2, 2]).unwrap(), [1., 3., 2., 4.]);
}

#[test]
fn python_2_text_names_tensors_too() {
    let mut code = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    // BINUNICODE "w" becomes SHORT_BINSTRING "w".
    let name = text("w");
    assert_eq!(code[1..7], name);
    code.splice(1..7, *b"U\x01w");
    let mut weights = open(legacy(&code, &[("k", &[7.])])).unwrap();
    assert_eq!(weights.take("w", &[1]).unwrap(), [7.]);
}

#[test]
fn names_and_opcodes_beyond_the_list_are_refused_by_name() {
    let refused = |code: &[u8]| message(object(code), ErrorKind::Unsupported);
    assert!(refused(b"cbuiltins\neval\n").contains("uses `builtins.eval`"));
    assert!(refused(b"c__builtin__\nexec\n").contains("uses `__builtin__.exec`"));
    assert!(refused(b"ctorch.storage\n_load_from_bytes\n").contains("uses `torch.storage._load_from_bytes`"));
    assert!(refused(b"ctorch\nload\n").contains("uses `torch.load`"));
    assert!(refused(b"ctorch\nQInt8Storage\n").contains("uses `torch.QInt8Storage`"));
    assert!(refused(b"\x8c\x02os\x8c\x06system\x93").contains("uses `os.system`"));
    assert!(refused(b"(ios\nsystem\n").contains("uses the pickle opcode INST,"));
    assert!(refused(b"\x82\x01").contains("uses the pickle opcode EXT1,"));
    assert!(refused(b"N2").contains("uses the pickle opcode DUP,"));
    assert!(refused(b"\x80\x06").contains("expected protocol 2 to 5, found 6"));
    // A name cannot smuggle a line, or a screenful, into a message.
    let long = format!("cos\x1b[2J\n{}\n", "x".repeat(100_000));
    let text = refused(long.as_bytes());
    assert!(text.contains("uses `os\\u{1b}[2J.xxx") && text.len() < 600, "{text}");
    assert!(message(object(b"\xff"), ErrorKind::Format).contains("has 0xff where a pickle opcode should be"));
    // Listed names do only what they stand for.
    assert!(
        message(object(b"ctorch\nFloatStorage\nK\x05\x85R"), ErrorKind::Format)
            .contains("calls Storage(F32) with 1 unexpected arguments")
    );
    assert!(message(object(b"NN\x85R"), ErrorKind::Format).contains("calls something that is not a name"));
}

#[test]
fn a_lazy_negation_or_a_state_set_on_a_tensor_is_refused() {
    let mut lazy = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    let end = lazy.len() - 3;
    assert_eq!(&lazy[end..], b"tRs");
    lazy.splice(end..end, *b"}X\x03\x00\x00\x00neg\x88s");
    let text = message(open(legacy(&lazy, &[("k", &[7.])])), ErrorKind::Unsupported);
    assert!(text.contains("pending negation or conjugation"), "{text}");

    let mut set = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    let end = set.len() - 1;
    set.splice(end..end, *b"(NK\x00)b");
    message(open(legacy(&set, &[("k", &[7.])])), ErrorKind::Format);
    let mut set = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    let end = set.len() - 1;
    set.splice(end..end, *b"K\x00\x85b");
    let text = message(open(legacy(&set, &[("k", &[7.])])), ErrorKind::Unsupported);
    assert!(text.contains("sets a tensor's contents by BUILD"), "{text}");
}

#[test]
fn stack_errors_are_errors() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "takes a value from an empty stack"),
        (b"N\x86", "takes a value from an empty stack"),
        // What lies below a mark is not there for what follows it.
        (b"N(\x85", "takes a value from an empty stack"),
        (b"N(q\x00", "looks at a value of an empty stack"),
        (b"Nt", "ends a group that was not begun"),
        (b"N(tu", "ends a group that was not begun"),
        (b"}(Nu", "has a dict key without a value"),
        (b"N(Ne", "appends to something that is not a list"),
        (b"]NNs", "sets an item of something that is not a dict"),
        (b"h\x07", "recalls value 7, which was never remembered"),
        (b"NN\x93", "names a global by something other than text"),
        (b"NQ", "has a persistent id that is not a tuple"),
        (b"N}b", "sets attributes on something that has none"),
        (b"U\x01\xff", "expected a dict from names to tensors, found text"),
    ];
    for (code, problem) in cases {
        let text = message(object(code), ErrorKind::Format);
        assert!(text.contains(problem), "{}: {text}", code.escape_ascii());
    }
}

#[test]
fn a_billion_laughs_stay_small() {
    // Each list holds the one before it twice: 2^200 leaves if anything unfolded them.
    let mut code = b"]q\x00".to_vec();
    for level in 1..=200u8 {
        code.extend([b']', b'q', level, b'(', b'h', level - 1, b'h', level - 1, b'e']);
    }
    let refused = message(object(&code), ErrorKind::Format);
    assert!(
        refused.contains("holds no state dict; expected a dict from names to tensors, found a list"),
        "{refused}"
    );
    // The same as the entries of dicts, under the very names that are opened.
    let mut code = b"}q\x00".to_vec();
    for level in 1..=200u8 {
        code.extend([b'}', b'q', level, b'(']);
        for name in ["model", "state_dict", "other"] {
            code.extend(text(name));
            code.extend([b'h', level - 1]);
        }
        code.push(b'u');
    }
    let refused = message(object(&code), ErrorKind::Format);
    assert!(refused.contains("found dicts within dicts"), "{refused}");
}

#[test]
fn a_dict_within_itself_ends() {
    let code = [b"}q\x00".as_slice(), &text("model"), b"h\x00s"].concat();
    assert!(message(object(&code), ErrorKind::Format).contains("found dicts within dicts"));
}

#[test]
fn nesting_has_no_depth_to_overflow() {
    let mut code = b")".to_vec();
    code.extend(vec![0x85; 500_000]);
    assert!(message(object(&code), ErrorKind::Format).contains("found a list"));
}

#[test]
fn work_is_bounded() {
    let endless = vec![b'N'; 3 << 20];
    let text = message(object(&endless), ErrorKind::Unsupported);
    assert!(text.contains("expected at most 1048576 steps, found more"), "{text}");
    // One list of pairs, made into a dict again and again.
    let mut code = b"]q\x00(".to_vec();
    for _ in 0..10_000 {
        code.extend(b"NN\x86");
    }
    code.extend(b"eccollections\nOrderedDict\nq\x01");
    for _ in 0..10_000 {
        code.extend(b"h\x01h\x00\x85R");
    }
    assert!(message(object(&code), ErrorKind::Unsupported).contains("far larger than a state dict"));
}

#[test]
fn a_shared_dict_is_looked_into_once() {
    // 100,000 names for one dict of 100,000 entries, beside a tensor: 10^10 looks if each were followed.
    let state = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    let shared = [b"}q\x00(".as_slice(), &b"NN".repeat(100_000), b"u"].concat();
    let mut code = [&state[..1], &text("shared"), &shared, b"s("].concat();
    for i in 0..100_000 {
        code.extend([b"\x8c\x05", format!("{i:05}").as_bytes(), b"h\x00"].concat());
    }
    code.push(b'u');
    code.extend(&state[1..]);
    let start = std::time::Instant::now();
    assert_eq!(open(legacy(&code, &[("k", &[1.])])).unwrap().names().collect::<Vec<_>>(), ["w"]);
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn sizes_in_a_file_are_not_believed() {
    let wrong = |code: &[u8]| message(object(code), ErrorKind::Format);
    // Text of 2^64 - 1 bytes, bytes of 4 GB, an integer of 2 GB.
    assert!(wrong(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").contains("ends inside its pickle"));
    assert!(wrong(b"B\xff\xff\xff\xff").contains("ends inside its pickle"));
    assert!(wrong(b"\x8b\xff\xff\xff\x7f").contains("ends inside its pickle"));
    // A frame may promise what it likes; what it holds is read opcode by opcode.
    assert!(wrong(b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN").contains("found None"));

    let tensor = |stored: u8, view: &[u8]| {
        message(open(legacy(&state("w", "k", stored, view), &[("k", &[1., 2.])])), ErrorKind::Format)
    };
    assert_eq!(
        tensor(2, b"K\x01K\x02\x85K\x01\x85"),
        "w.pth: tensor `w` reaches element 2 of a storage that holds 2 (shape [2], strides [1], offset 1)"
    );
    assert!(tensor(3, b"K\x00K\x02\x85K\x01\x85").contains("expected 3 elements, found 2"));
    assert!(tensor(2, b"J\xff\xff\xff\xffK\x02\x85K\x01\x85").contains("has the size or position -1"));
    let huge = b"K\x00\x8a\x07\0\0\0\0\0\0\x01\x8a\x07\0\0\0\0\0\0\x01\x86K\x00K\x00\x86";
    assert!(tensor(2, huge).contains("impossible shape"));
}

#[test]
fn an_expanded_tensor_is_given_only_to_who_knows_its_size() {
    // Shape [10], stride [0], of one stored element.
    let mut weights = open(legacy(&state("w", "k", 1, b"K\x00K\x0a\x85K\x00\x85"), &[("k", &[3.])])).unwrap();
    assert_eq!(weights.take("w", &[10]).unwrap(), [3.; 10]);
    let text = message(weights.take_any("w"), ErrorKind::Unsupported);
    assert_eq!(
        text,
        "w: has more elements than w.pth stores for it. \
         Save the state dict with every tensor made contiguous()"
    );
}

#[test]
fn storages_must_be_there_and_be_described() {
    let view = b"K\x00K\x01\x85K\x01\x85";
    let text = message(open(legacy(&state("w", "k", 1, view), &[])), ErrorKind::Format);
    assert_eq!(text, "w.pth: does not hold storage `k`, which a tensor uses");
    let text = message(
        open(legacy(&state("w", "k", 1, view), &[("k", &[1.]), ("other", &[1.])])),
        ErrorKind::Format,
    );
    assert_eq!(text, "w.pth: lists a storage (2 of 2) that no tensor describes");
}

#[test]
fn a_checkpoint_of_two_networks_is_not_guessed_at() {
    let one = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    let of = |names: [&str; 2]| {
        let code = [b"}(".as_slice(), &text(names[0]), &one, &text(names[1]), &one, b"u"].concat();
        open(legacy(&code, &[("k", &[1.])]))
    };
    assert_eq!(
        message(of(["teacher", "student"]), ErrorKind::Unsupported),
        "w.pth: holds 2 dicts of tensors; expected one, or one named state_dict, model, \
         model_state_dict, net, found student, teacher. Save the one state dict that is meant into a file of its own"
    );
    assert_eq!(of(["model_ema", "model"]).unwrap().names().collect::<Vec<_>>(), ["w"]);

    let beside = [&one[..one.len() - 1], b"s", &text("ema"), &one, b"s"].concat();
    let text = message(open(legacy(&beside, &[("k", &[1.])])), ErrorKind::Unsupported);
    assert!(text.contains("holds tensors beside a dict of tensors, `ema`"), "{text}");
}

#[test]
fn other_zip_archives_are_told_apart() {
    let unsupported = |bytes: Vec<u8>| message(open(bytes), ErrorKind::Unsupported);
    let text = unsupported(zipped(&[("mimetype", b"x"), ("a/b/data.pkl", b"x")], stored()));
    assert!(text.contains("is a zip archive, but not one that torch.save wrote"), "{text}");
    let text = unsupported(zipped(&[("m/data.pkl", b"}."), ("m/byteorder", b"big")], stored()));
    assert!(text.contains("expected byte order `little`, found `big`"), "{text}");
    let text = unsupported(zipped(&[("m/data.pkl", &[b'}'; 500])], SimpleFileOptions::default()));
    assert!(text.contains("zip entry `m/data.pkl` is compressed, which torch.save never does"), "{text}");
    let text = unsupported(zipped(
        &[("m/data.pkl", b"\x80\x02c__torch__.net\nNet\n"), ("m/constants.pkl", b"")],
        stored(),
    ));
    assert!(text.contains("is a TorchScript program") && text.contains("`__torch__.net.Net`"), "{text}");
    let text =
        message(open(zipped(&[("a/data.pkl", b"}."), ("b/data.pkl", b"}.")], stored())), ErrorKind::Format);
    assert!(text.contains("holds more than one data.pkl"), "{text}");

    let code = state("w", "k", 1, b"K\x00K\x01\x85K\x01\x85");
    let code = [b"\x80\x02".as_slice(), &code, b"."].concat();
    let text = message(open(zipped(&[("m/data.pkl", &code)], stored())), ErrorKind::Format);
    assert!(text.contains("the archive has no entry `m/data/k`"), "{text}");
    let text = message(
        open(zipped(&[("m/data.pkl", &code), ("m/data/k", b"12345678")], stored())),
        ErrorKind::Format,
    );
    assert!(text.contains("expected 1 elements of 4 bytes, found 8 bytes"), "{text}");
    let file = zipped(&[("data.pkl", &code), ("data/k", &3.5f32.to_le_bytes())], stored());
    assert_eq!(open(file).unwrap().take("w", &[1]).unwrap(), [3.5]);
}

#[test]
fn a_flipped_bit_in_a_zip_is_noticed() {
    let mut file = fixture("zip.pth");
    let scale = file.windows(4).position(|w| w == 2.5f32.to_le_bytes()).unwrap();
    file[scale] ^= 1;
    let text = message(open(file), ErrorKind::Format);
    assert!(text.contains("cannot be read (Invalid checksum)"), "{text}");
}

#[test]
fn safetensors_headers_are_checked() {
    let of = |header: &str, data: &[u8]| {
        let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        message(open(file), ErrorKind::Format)
    };
    let text = of(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 7]);
    assert!(text.contains("expected 8 bytes of data, found 7"), "{text}");
    let text = of(r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8]);
    assert!(text.contains("the safetensors header is not valid (invalid shape"), "{text}");
    // Offsets that add up to less than nothing: the sum of header and data passes 2^64.
    let text = of(
        r#"{"a":{"dtype":"U8","shape":[18446744073709551610],"data_offsets":[0,18446744073709551610]}}"#,
        &[],
    );
    assert!(text.contains("safetensors header is not valid") || text.contains("found 0"), "{text}");
    let mut cut = fixture("plain.safetensors");
    cut.truncate(100);
    let text = message(open(cut), ErrorKind::Format);
    assert!(text.contains("ends inside its header"), "{text}");
    let text = message(open(b"\0\0\0\x7f\0\0\0\0{".to_vec()), ErrorKind::Format);
    assert!(text.contains("expected at most 16777216 bytes, found 2130706432"), "{text}");
}
