//! The values of a picture's pixels, on the scale 0–255 whatever the file's depth.

/// Mean difference between channels, levels, up to which a picture has no colour.
const GREY: f64 = 1.0;
/// Standard deviation of luma, levels, below which a picture shows nothing.
const FEATURELESS: f64 = 2.0;

/// The values of a picture's pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colour {
    /// Mean of R, G, B, 0–255.
    pub mean: [f64; 3],
    /// Standard deviation of R, G, B over the pixels, divided by n.
    pub std_dev: [f64; 3],
    /// Mean of luma.
    pub luma: f64,
    /// Standard deviation of luma.
    pub luma_std_dev: f64,
    /// Skewness of luma; `None` where luma is constant.
    pub skewness: Option<f64>,
    /// Lowest value of any channel.
    pub lowest: f64,
    /// Highest value of any channel.
    pub highest: f64,
    /// Share of values that are 0.
    pub black: f64,
    /// Share of values that are 255.
    pub white: f64,
    /// Mean of |R − G| and |G − B|.
    pub chroma: f64,
}

impl Colour {
    pub(super) fn is_grey(&self) -> bool {
        self.chroma <= GREY
    }

    /// Whether the picture is of one tone, or as good as.
    pub fn is_featureless(&self) -> bool {
        self.luma_std_dev < FEATURELESS && self.std_dev.iter().all(|s| *s < FEATURELESS)
    }
}

/// Running sums.
#[derive(Default)]
pub(super) struct Sums {
    n: u64,
    sum: [f64; 3],
    square: [f64; 3],
    luma: [f64; 3],
    lowest: Option<f32>,
    highest: f32,
    black: u64,
    white: u64,
    chroma: f64,
}

impl Sums {
    #[inline]
    pub(super) fn add(&mut self, rgb: [f32; 3], luma: f32) {
        self.n += 1;
        for (k, value) in rgb.into_iter().enumerate() {
            self.sum[k] += f64::from(value);
            self.square[k] += f64::from(value * value);
            self.black += u64::from(value == 0.0);
            self.white += u64::from(value >= 255.0);
        }
        let [low, high] = [rgb[0].min(rgb[1]).min(rgb[2]), rgb[0].max(rgb[1]).max(rgb[2])];
        self.lowest = Some(self.lowest.map_or(low, |lowest| lowest.min(low)));
        self.highest = self.highest.max(high);
        self.chroma += f64::from((rgb[0] - rgb[1]).abs() + (rgb[1] - rgb[2]).abs());
        // Around the middle of the range the third power loses least.
        let centred = f64::from(luma) - 127.5;
        self.luma[0] += centred;
        self.luma[1] += centred * centred;
        self.luma[2] += centred * centred * centred;
    }

    pub(super) fn finish(&self) -> Colour {
        let n = self.n as f64;
        let mean = self.sum.map(|s| s / n);
        let std_dev = std::array::from_fn(|k| (self.square[k] / n - mean[k] * mean[k]).max(0.0).sqrt());
        let [m1, m2, m3] = self.luma.map(|s| s / n);
        let variance = (m2 - m1 * m1).max(0.0);
        let third = m3 - 3.0 * m1 * m2 + 2.0 * m1 * m1 * m1;
        Colour {
            mean,
            std_dev,
            luma: m1 + 127.5,
            luma_std_dev: variance.sqrt(),
            skewness: (variance > 1e-6).then(|| third / variance.powf(1.5)),
            lowest: f64::from(self.lowest.unwrap_or(0.0)),
            highest: f64::from(self.highest),
            black: self.black as f64 / (3.0 * n),
            white: self.white as f64 / (3.0 * n),
            chroma: self.chroma / (2.0 * n),
        }
    }
}
