//! The protobuf wire format: a message is a list of numbered fields. Nothing is copied and nothing
//! is allocated; a length is believed only as far as the bytes reach.
//!
//! Why not prost: it builds whole trees of messages before anything can be counted, and an empty
//! submessage of two bytes becomes a struct of two hundred.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1, little-endian.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a submessage, or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5, little-endian.
    Fixed32(u32),
}

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Broken(pub(super) &'static str);

/// The fields of a message in the order they are stored.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Broken("ends inside a field"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Field<'a>), Broken> {
        let key = varint(&mut self.rest)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut self.rest)?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes"))),
            2 => {
                let length = varint(&mut self.rest)?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes"))),
            _ => return Err(Broken("has a field of an unknown wire type")),
        };
        Ok((key >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A base-128 number at the beginning of `bytes`, which move on.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Broken> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Broken("ends inside a number"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Broken("has a number of more than 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_encoding_guide() {
        // protobuf.dev, "Encoding": field 1 = 150; field 2 = "testing".
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67];
        let fields: Vec<_> = Fields::of(&bytes).map(Result::unwrap).collect();
        assert_eq!(fields, [(1, Field::Varint(150)), (2, Field::Bytes(b"testing"))]);
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_ends() {
        for bytes in [&[0x08][..], &[0x12, 0x07, 0x74], &[0x08, 0xff], &[0x0b], &[0x0d, 1, 2]] {
            let fields: Vec<_> = Fields::of(bytes).collect();
            assert!(fields.len() == 1 && fields[0].is_err(), "{bytes:?}: {fields:?}");
        }
        let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(Fields::of(&huge).next().unwrap().is_err());
        assert!(varint(&mut &[0xff; 11][..]).is_err());
    }
}
