//! Whether pixels went through JPEG before, whatever file they are in now.

/// Blocks looked at, at most, spread evenly over the picture.
const BLOCKS: usize = 256;
/// Side of a block, pixels.
const SIDE: usize = 8;
/// What keeps a picture without any detail at 0.
const EASE: f64 = 0.05;

/// How far a picture keeps the 8 × 8 grid of an earlier JPEG that starts in its corner: near 0 where there was none, about .25 after
/// quality 95, .6 after 75; at most 0.96.
///
/// Quantising sets most coefficients of a block to 0. So the share a of coefficients (all but the constant one) below 1 in size is
/// compared with the share b in blocks shifted by 4 pixels both ways, where the grid has no meaning:
/// (a − b) / (1.05 − b). `None` below 16 pixels a side. A grid moved by cropping is not seen, and resizing wipes it out.
///
/// # Source
/// That small coefficients tell an earlier JPEG, down to 8 × 8 pixels and quality 98: Luo, Huang, Qiu 2010, JPEG Error Analysis and Its
/// Applications to Digital Image Forensics, IEEE TIFS 5(3). The shifted grid as yardstick: Fridrich, Goljan, Hogea 2002,
/// Steganalysis of JPEG Images: Breaking the F5 Algorithm.
pub(super) fn jpeg_traces(width: usize, height: usize, luma: impl Fn(usize, usize) -> f32) -> Option<f64> {
    if width.min(height) < 2 * SIDE {
        return None;
    }
    let cosines = cosines();
    let [aligned, shifted] = [0, SIDE / 2].map(|offset| {
        let columns = (width - offset) / SIDE;
        let all = columns * ((height - offset) / SIDE);
        let wanted = all.min(BLOCKS);
        let mut small = 0;
        for i in 0..wanted {
            let block = i * all / wanted;
            let (x, y) = (offset + block % columns * SIDE, offset + block / columns * SIDE);
            small += small_coefficients(&cosines, |i, j| luma(x + i, y + j));
        }
        small as f64 / (wanted * (SIDE * SIDE - 1)) as f64
    });
    Some((aligned - shifted) / (1.0 + EASE - shifted))
}

/// Orthonormal DCT-II, frequency by place.
fn cosines() -> [[f32; SIDE]; SIDE] {
    std::array::from_fn(|u| {
        let scale: f64 = if u == 0 { 0.125 } else { 0.25 };
        std::array::from_fn(|x| {
            let angle = std::f64::consts::PI * u as f64 * (x as f64 + 0.5) / SIDE as f64;
            (scale.sqrt() * angle.cos()) as f32
        })
    })
}

/// How many of a block's coefficients but the constant one are below 1 in size.
fn small_coefficients(cosines: &[[f32; SIDE]; SIDE], at: impl Fn(usize, usize) -> f32) -> usize {
    let mut along = [[0.0f32; SIDE]; SIDE];
    for (y, row) in along.iter_mut().enumerate() {
        // What is constant changes no other coefficient, but would cost f32 its last places.
        let line: [f32; SIDE] = std::array::from_fn(|x| at(x, y) - 128.0);
        *row = std::array::from_fn(|v| cosines[v].iter().zip(line).map(|(c, l)| c * l).sum());
    }
    let mut small = 0;
    for (u, cosines) in cosines.iter().enumerate() {
        for v in 0..SIDE {
            let coefficient: f32 = cosines.iter().zip(&along).map(|(c, row)| c * row[v]).sum();
            small += usize::from((u, v) != (0, 0) && coefficient.abs() < 1.0);
        }
    }
    small
}
