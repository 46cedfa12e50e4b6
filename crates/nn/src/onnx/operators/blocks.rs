//! DepthToSpace and SpaceToDepth.

use super::place::{seen, view_of};
use super::shape::reshape_to;
use super::{Importer, Read};
use crate::Error;
use crate::onnx::call::Call;

/// DepthToSpace and SpaceToDepth: blocks of channels as blocks of pixels, and back.
pub(super) fn blocks<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let side = usize::try_from(call.int("blocksize", 0)?).ok().filter(|s| *s > 0);
    let (Some(s), &[n, c, h, w]) = (side, &view_of(&value).dims[..]) else {
        return Err(call.broken("needs a block size and a tensor of four axes"));
    };
    let misfit = || -> Error { call.broken(format!("blocks of {s} do not divide {c}×{h}×{w}")) };
    let product = |a: usize, b: usize| a.checked_mul(b).ok_or_else(|| call.too_large());
    let square = product(s, s)?;
    let (split, permutation, merged): (Vec<usize>, &[usize], Vec<usize>) = if call.node.op == "SpaceToDepth" {
        if !h.is_multiple_of(s) || !w.is_multiple_of(s) {
            return Err(misfit());
        }
        (vec![n, c, h / s, s, w / s, s], &[0, 3, 5, 1, 2, 4], vec![n, product(c, square)?, h / s, w / s])
    } else {
        if !c.is_multiple_of(square) {
            return Err(misfit());
        }
        let merged = vec![n, c / square, product(h, s)?, product(w, s)?];
        match call.text("mode", "DCR")? {
            "DCR" => (vec![n, s, s, c / square, h, w], &[0, 3, 4, 1, 5, 2], merged),
            "CRD" => (vec![n, c / square, s, s, h, w], &[0, 1, 4, 2, 5, 3], merged),
            other => {
                return Err(call
                    .unsupported("orders blocks in an unsupported way")
                    .expected("DCR or CRD", other));
            }
        }
    };
    let value = reshape_to(importer, call, value, split)?;
    let view = view_of(&value).transpose(permutation);
    let value = seen(importer, call, &value, view)?;
    Ok(vec![reshape_to(importer, call, value, merged)?])
}
