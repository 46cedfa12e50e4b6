//! Tensors whose values are known when the file is read, and the budget they are charged to.

use std::rc::Rc;

use super::view::{View, broadcast, row_major};

/// A tensor with its values, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) values: Values,
}

/// Values of a tensor; every floating-point type is f32 here, every other i64.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Float(Rc<Vec<f32>>),
    Int(Rc<Vec<i64>>),
}

impl Constant {
    pub(super) fn floats(dims: Vec<usize>, values: Vec<f32>) -> Self {
        Constant { dims, values: Values::Float(Rc::new(values)) }
    }

    pub(super) fn ints(dims: Vec<usize>, values: Vec<i64>) -> Self {
        Constant { dims, values: Values::Int(Rc::new(values)) }
    }

    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Float(v) => v.len(),
            Values::Int(v) => v.len(),
        }
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self.values, Values::Float(_))
    }

    /// The values as floating-point numbers.
    pub(super) fn to_floats(&self) -> Rc<Vec<f32>> {
        match &self.values {
            Values::Float(v) => v.clone(),
            Values::Int(v) => Rc::new(v.iter().map(|&v| v as f32).collect()),
        }
    }

    /// The values as integers; floating-point ones lose their fraction.
    pub(super) fn to_ints(&self) -> Vec<i64> {
        match &self.values {
            Values::Float(v) => v.iter().map(|&v| v as i64).collect(),
            Values::Int(v) => v.to_vec(),
        }
    }

    /// The value, if there is one only.
    pub(super) fn scalar(&self) -> Option<f32> {
        match &self.values {
            Values::Float(v) if v.len() == 1 => Some(v[0]),
            Values::Int(v) if v.len() == 1 => Some(v[0] as f32),
            _ => None,
        }
    }

    /// A view of the values, as if they lay in a node.
    pub(super) fn view(&self) -> View {
        View::dense(usize::MAX, self.dims.clone(), &row_major(self.dims.len()))
    }

    /// The values that `view` shows, in its logical order.
    pub(super) fn seen(&self, view: &View) -> Constant {
        let order = row_major(view.rank());
        let dims = view.dims.clone();
        match &self.values {
            Values::Float(v) => Constant::floats(dims, view.offsets(&order).map(|i| v[i]).collect()),
            Values::Int(v) => Constant::ints(dims, view.offsets(&order).map(|i| v[i]).collect()),
        }
    }

    /// f of two tensors with broadcasting; `None` if their lengths do not fit. The caller has charged for it.
    pub(super) fn zip(
        &self,
        other: &Constant,
        float: impl Fn(f32, f32) -> f32,
        int: impl Fn(i64, i64) -> i64,
    ) -> Option<Constant> {
        let dims = broadcast(&self.dims, &other.dims)?;
        let order = row_major(dims.len());
        let (a, b) = (self.view().expand(&dims), other.view().expand(&dims));
        let at = a.offsets(&order).zip(b.offsets(&order));
        Some(match (&self.values, &other.values) {
            (Values::Int(x), Values::Int(y)) => {
                Constant::ints(dims.clone(), at.map(|(i, j)| int(x[i], y[j])).collect())
            }
            _ => {
                let (x, y) = (self.to_floats(), other.to_floats());
                Constant::floats(dims.clone(), at.map(|(i, j)| float(x[i], y[j])).collect())
            }
        })
    }
}

/// Memory that reading a file may still take beyond its own bytes.
pub(super) struct Budget {
    left: usize,
    /// Values that may still be moved about one by one.
    moves: usize,
}

/// What any file may take, whatever its size: one large position embedding, resized, and its kin.
const FIXED_BYTES: usize = 128 << 20;
/// Values moved about while reading: Swin-L at 384 px moves 4e8. A minute of work at most.
const MOVES: usize = 1 << 32;
/// What it may take for each of its own bytes: its weights once as they are and once repacked,
/// float16 widened, a tensor shared by a few layers.
const PER_BYTE: usize = 16;

impl Budget {
    pub(super) fn for_file(bytes: usize) -> Self {
        Budget { left: bytes.saturating_mul(PER_BYTE).saturating_add(FIXED_BYTES), moves: MOVES }
    }

    /// Takes `count` values of `size` bytes off the budget; `None` if it does not hold as much.
    pub(super) fn charge(&mut self, count: usize, size: usize) -> Option<()> {
        self.left = self.left.checked_sub(count.checked_mul(size)?)?;
        Some(())
    }

    /// Allows `count` values of four bytes that are gone again before anything else is taken, and the work of moving
    /// them.
    pub(super) fn pass(&mut self, count: usize) -> Option<()> {
        self.moves = self.moves.checked_sub(count)?;
        (count <= self.left / 4).then_some(())
    }
}
