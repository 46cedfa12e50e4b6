//! Feature, input gradient and jet of a backbone for given inputs: what `reference/networks_full_size.py` compares.
//!
//!     cargo run --release -p anomaly-score --example backbone_numbers -- NAME WEIGHTS FOLDER
//!
//! Reads FOLDER/{image,direction}.npy (3×H×W, f32) and cotangent.npy (D); writes found-{feature,gradient}.npy (f32), and
//! found-{y1,y2}.npy for a network with second derivatives; for one with kinks the gradient in f64 arithmetic instead,
//! found-gradient_f64.npy, since in f32 a unit may fall on the other side of its kink.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anomaly_score::backbone::Entry;
use nn::engine::Network;
use nn::weights::Weights;
use npyz::{NpyFile, WriterBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, weights, folder] = args.as_slice() else {
        return Err("expected NAME WEIGHTS FOLDER".into());
    };
    let folder = PathBuf::from(folder);
    let graph = Entry::find(name)?.graph(Weights::open(Path::new(weights))?)?;
    let network = Network::<f32>::new(&graph);
    let mut workspace = network.workspace();
    let image = channels_last(&read(&folder, "image")?);
    let (feature, tape) = network.forward_saving(&mut workspace, &image);
    write(&folder, "feature", &feature)?;
    let cotangent = read(&folder, "cotangent")?;
    let gradient = network.vjp(&mut workspace, tape, &cotangent);
    write(&folder, "gradient", &planar(&gradient))?;
    if network.smooth().is_ok() {
        let direction = channels_last(&read(&folder, "direction")?);
        let [_, first, second] = network.jet(&mut workspace, &image, &direction)?;
        write(&folder, "y1", &first)?;
        write(&folder, "y2", &second)?;
    } else {
        let network = Network::<f64>::new(&graph);
        let mut workspace = network.workspace();
        let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (_, tape) = network.forward_saving(&mut workspace, &wide(&image));
        let gradient = network.vjp(&mut workspace, tape, &wide(&cotangent));
        let narrow: Vec<f32> = gradient.iter().map(|&v| v as f32).collect();
        write(&folder, "gradient_f64", &planar(&narrow))?;
    }
    Ok(())
}

fn read(folder: &Path, name: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let path = folder.join(format!("{name}.npy"));
    let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(NpyFile::new(BufReader::new(file))?.into_vec()?)
}

fn write(folder: &Path, name: &str, values: &[f32]) -> Result<(), Box<dyn Error>> {
    let file = BufWriter::new(File::create(folder.join(format!("found-{name}.npy")))?);
    let shape = [values.len() as u64];
    let mut array = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    array.extend(values.iter().copied())?;
    Ok(array.finish()?)
}

/// 3×H×W → H×W×3.
fn channels_last(x: &[f32]) -> Vec<f32> {
    let plane = x.len() / 3;
    (0..plane).flat_map(|i| [x[i], x[plane + i], x[2 * plane + i]]).collect()
}

/// H×W×3 → 3×H×W.
fn planar(x: &[f32]) -> Vec<f32> {
    (0..3).flat_map(|c| x.iter().skip(c).step_by(3).copied()).collect()
}
