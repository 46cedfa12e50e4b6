//! What the targets share: a file is not only opened, everything in it is read.

pub mod onnx;

use nn::weights::Weights;

/// Reads `bytes` as a checkpoint, to the last value of the last tensor. Whether that succeeds does not matter.
pub fn exhaust_weights(bytes: Vec<u8>) {
    let Ok(mut weights) = Weights::from_bytes(bytes, "input") else { return };
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    for name in &names {
        let shape = weights.shape(name).expect("a name that was just listed").to_vec();
        if let Ok((found, values)) = weights.take_any(name) {
            assert_eq!(found, shape, "{name}");
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        }
        // Another shape than the file's: refused, or the tensor is a scalar.
        assert!(weights.take(name, &[7, 11, 13]).is_err() || shape == [7, 11, 13], "{name}");
    }
    let _ = weights.take("no such tensor", &[1]);
    let _ = weights.finish(|name| name.len() % 2 == 0);
}
