//! Means of luma over a grid of 32 × 32 equal areas.

/// Areas a side.
pub(super) const GRID: usize = 32;

/// The means, row by row.
pub(super) type Area = [f64; GRID * GRID];

/// Takes a picture row by row. A pixel counts to each area by the share of it that lies there, so that any size works, also
/// one below the grid's.
pub(super) struct Means {
    columns: Vec<Part>,
    rows: std::vec::IntoIter<Part>,
    next: Option<Part>,
    row: usize,
    sums: Area,
    cell: f64,
}

/// A stretch of one pixel inside one area, both along one side.
#[derive(Clone, Copy)]
struct Part {
    pixel: usize,
    area: usize,
    length: f64,
}

/// The parts of `n` pixels, in order. Lengths are in units of 1/32 pixel.
fn parts(n: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(n + GRID);
    let (mut at, end) = (0, n * GRID);
    while at < end {
        // A pixel is 32 units long, an area n.
        let (pixel, area) = (at / GRID, at / n);
        let stop = ((pixel + 1) * GRID).min((area + 1) * n);
        parts.push(Part { pixel, area, length: (stop - at) as f64 });
        at = stop;
    }
    parts
}

impl Means {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let mut rows = parts(height).into_iter();
        let next = rows.next();
        let cell = (width * height) as f64;
        Means { columns: parts(width), rows, next, row: 0, sums: [0.0; GRID * GRID], cell }
    }

    pub(super) fn add(&mut self, luma: &[f32]) {
        let mut along = [0.0; GRID];
        for part in &self.columns {
            along[part.area] += f64::from(luma[part.pixel]) * part.length;
        }
        while let Some(part) = self.next.filter(|part| part.pixel == self.row) {
            let sums = &mut self.sums[part.area * GRID..][..GRID];
            sums.iter_mut().zip(along).for_each(|(sum, value)| *sum += value * part.length);
            self.next = self.rows.next();
        }
        self.row += 1;
    }

    pub(super) fn finish(mut self) -> Area {
        self.sums.iter_mut().for_each(|sum| *sum /= self.cell);
        self.sums
    }
}
