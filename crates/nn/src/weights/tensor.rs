//! One stored tensor: what it is, where its bytes lie in the file, and its values as f32.

use std::ops::Range;

use half::{bf16, f16};

/// Most dimensions a tensor may have. Networks use up to five; the bound keeps a shape that a
/// hostile file shares among many tensors from being copied at length.
pub(super) const MAX_RANK: usize = 16;

/// The number type of a stored tensor. Only the first four can become f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    /// A type that is kept by name and never converted; `bytes` an element, 0 where it is less than one.
    Other {
        name: &'static str,
        bytes: usize,
    },
}

impl Dtype {
    /// Bytes an element.
    pub(super) fn size(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Other { bytes, .. } => bytes,
        }
    }

    /// The name messages use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "f64",
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::Other { name, .. } => name,
        }
    }

    /// Whether values can be read as f32 without changing what they mean.
    pub(super) fn is_float(self) -> bool {
        !matches!(self, Dtype::Other { .. })
    }
}

/// A view of a storage: element `i` along axis `a` lies `i · strides[a]` elements further on.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    /// In elements, from the start of the storage.
    offset: usize,
    /// Where the storage lies in the file.
    storage: Range<usize>,
    elements: usize,
}

impl Tensor {
    /// A view of `storage`, which the caller has checked to lie inside the file.
    ///
    /// # Errors
    /// In words, if the numbers overflow or an element would lie outside the storage.
    pub(super) fn view(
        dtype: Dtype,
        storage: Range<usize>,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Tensor, String> {
        if shape.len() != strides.len() {
            return Err(format!("has {} dimensions but {} strides", shape.len(), strides.len()));
        }
        if shape.len() > MAX_RANK {
            return Err(format!("has {} dimensions, more than the {MAX_RANK} supported", shape.len()));
        }
        let too_large = || format!("has the impossible shape {shape:?} with strides {strides:?}");
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(too_large)?;
        let stored = storage.len() / dtype.size().max(1);
        if elements > 0 {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?))
                .ok_or_else(too_large)?;
            if last >= stored {
                return Err(format!(
                    "reaches element {last} of a storage that holds {stored} (shape {shape:?}, \
                     strides {strides:?}, offset {offset})"
                ));
            }
        }
        Ok(Tensor { dtype, shape, strides, offset, storage, elements })
    }

    /// A tensor whose elements follow each other in row-major order, in a file whose reader has
    /// checked that they fill `storage`.
    pub(super) fn packed(dtype: Dtype, storage: Range<usize>, shape: Vec<usize>) -> Result<Tensor, String> {
        let strides = row_major(&shape);
        if dtype.is_float() {
            return Tensor::view(dtype, storage, 0, shape, strides);
        }
        // Elements may be smaller than a byte here, and nothing ever addresses them.
        let elements = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        Ok(Tensor { dtype, shape, strides, offset: 0, storage, elements })
    }

    /// Where the storage lies in the file.
    pub(super) fn place(&self) -> Range<usize> {
        self.storage.clone()
    }

    /// Whether the view names more elements than are stored, as an expanded (stride 0) tensor does.
    pub(super) fn is_expanded(&self) -> bool {
        self.elements > self.storage.len() / self.dtype.size().max(1)
    }

    /// The values in row-major order, `None` if the type cannot become f32.
    /// f64 is rounded to nearest, f16 and bf16 are exact. `file` is the whole file.
    pub(super) fn to_f32(&self, file: &[u8]) -> Option<Vec<f32>> {
        let bytes = file.get(self.storage.clone())?;
        match self.dtype {
            Dtype::F64 => self.gather(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => self.gather(bytes, f32::from_le_bytes),
            Dtype::F16 => self.gather(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => self.gather(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::Other { .. } => None,
        }
    }

    fn gather<const N: usize>(&self, bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        let (stored, _) = bytes.as_chunks::<N>();
        if self.elements == 0 {
            return Some(Vec::new());
        }
        if self.is_row_major() {
            let run = stored.get(self.offset..self.offset + self.elements)?;
            return Some(run.iter().map(|&b| read(b)).collect());
        }
        // Rows along the last axis, odometer over the others.
        let (&row_len, outer) = self.shape.split_last()?;
        let (&row_stride, outer_strides) = self.strides.split_last()?;
        let mut out = Vec::with_capacity(self.elements);
        let mut index = vec![0usize; outer.len()];
        let mut row = self.offset;
        loop {
            for i in 0..row_len {
                out.push(read(*stored.get(row + i * row_stride)?));
            }
            let mut axis = outer.len();
            loop {
                if axis == 0 {
                    return Some(out);
                }
                axis -= 1;
                index[axis] += 1;
                row += outer_strides[axis];
                if index[axis] < outer[axis] {
                    break;
                }
                row -= index[axis] * outer_strides[axis];
                index[axis] = 0;
            }
        }
    }

    fn is_row_major(&self) -> bool {
        // The stride of an axis of length 1 is never walked, and torch leaves any number there.
        self.shape
            .iter()
            .zip(&self.strides)
            .zip(row_major(&self.shape))
            .all(|((&d, &s), want)| d == 1 || s == want)
    }
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for a in (1..shape.len()).rev() {
        // A shape whose product overflows is refused by `view`; a length of 0 is walked nowhere.
        strides[a - 1] = strides[a].saturating_mul(shape[a].max(1));
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_file(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn strided_views_pick_the_elements_torch_picks() {
        // torch.arange(24.).reshape(2, 3, 4).permute(2, 0, 1)[1:, :, ::2], worked out by hand:
        // element (i, j, k) is (i + 1) + 12 j + 8 k.
        let file = f32_file(&(0..24).map(|v| v as f32).collect::<Vec<_>>());
        let t = Tensor::view(Dtype::F32, 0..96, 1, vec![3, 2, 2], vec![1, 12, 8]).unwrap();
        let want: Vec<f32> = vec![1., 9., 13., 21., 2., 10., 14., 22., 3., 11., 15., 23.];
        assert_eq!(t.to_f32(&file).unwrap(), want);
    }

    #[test]
    fn axes_of_length_one_may_have_any_stride() {
        let file = f32_file(&[5.0, 6.0]);
        let t = Tensor::view(Dtype::F32, 0..8, 0, vec![1, 2, 1], vec![77, 1, 99]).unwrap();
        assert_eq!(t.to_f32(&file).unwrap(), [5.0, 6.0]);
    }

    #[test]
    fn views_outside_the_storage_are_refused() {
        let refused = |offset, shape: &[usize], strides: &[usize]| {
            Tensor::view(Dtype::F32, 0..40, offset, shape.to_vec(), strides.to_vec()).unwrap_err()
        };
        assert_eq!(
            refused(1, &[10], &[1]),
            "reaches element 10 of a storage that holds 10 (shape [10], strides [1], offset 1)"
        );
        assert!(refused(0, &[usize::MAX, 2], &[1, 1]).contains("impossible shape"));
        assert!(refused(0, &[3], &[usize::MAX]).contains("impossible shape"));
        assert!(refused(usize::MAX, &[2], &[1]).contains("impossible shape"));
        assert_eq!(refused(0, &[2, 5], &[1]), "has 2 dimensions but 1 strides");
        assert!(refused(0, &[1; 17], &[1; 17]).contains("17 dimensions"));
        assert!(Tensor::view(Dtype::F32, 0..40, 0, vec![10], vec![1]).is_ok());
    }

    #[test]
    fn expanded_views_are_known_as_such() {
        let t = Tensor::view(Dtype::F32, 0..4, 0, vec![1 << 40], vec![0]).unwrap();
        assert!(t.is_expanded());
        let t = Tensor::view(Dtype::F32, 0..4, 0, vec![1], vec![0]).unwrap();
        assert!(!t.is_expanded());
    }

    #[test]
    fn empty_views_need_no_storage() {
        let t = Tensor::view(Dtype::F32, 0..0, 0, vec![0, 3], vec![3, 1]).unwrap();
        assert_eq!(t.to_f32(&[]).unwrap(), Vec::<f32>::new());
    }
}
