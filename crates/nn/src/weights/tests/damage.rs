//! Sound files cut off or changed at random: never a panic, and of a cut-off file never a success.

use proptest::prelude::*;

use super::*;

/// Reads whatever can still be read.
fn exhaust(bytes: Vec<u8>) -> Result<()> {
    let mut weights = Weights::from_bytes(bytes, "damaged")?;
    let names: Vec<String> = weights.names().map(str::to_string).collect();
    for name in names {
        let shape = weights.shape(&name).unwrap().to_vec();
        if let Ok((found, values)) = weights.take_any(&name) {
            assert_eq!(found, shape);
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
    }
    weights.finish(|_| true)
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    for file in READABLE {
        let whole = fixture(file);
        for len in 0..whole.len() {
            let error = exhaust(whole[..len].to_vec()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{file} cut to {len} bytes: {error}");
        }
        exhaust(whole).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn a_changed_file_never_panics(
        file in prop::sample::select(READABLE.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = fixture(file);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        let _ = exhaust(bytes);
    }

    #[test]
    fn parts_put_together_wrongly_never_panic(
        file in prop::sample::select(READABLE.to_vec()),
        from in any::<prop::sample::Index>(),
        len in 0usize..64,
        to in any::<prop::sample::Index>(),
        remove in 0usize..64,
    ) {
        let bytes = fixture(file);
        let from = from.index(bytes.len());
        let part = bytes[from..bytes.len().min(from + len)].to_vec();
        let mut spliced = bytes;
        let to = to.index(spliced.len());
        let end = spliced.len().min(to + remove);
        spliced.splice(to..end, part);
        let _ = exhaust(spliced);
    }

    #[test]
    fn random_bytes_behind_a_sound_beginning_never_panic(
        file in prop::sample::select(READABLE.to_vec()),
        keep in 0usize..200,
        tail in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = fixture(file);
        bytes.truncate(keep);
        bytes.extend(tail);
        let _ = exhaust(bytes);
    }
}
