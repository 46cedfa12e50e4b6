//! Networks from ONNX files, opset 11 to 21: read, checked, folded and fused into the engine's graph.
//!
//! Weights lie in the file or in files beside it. The batch is one image. Whatever is not supported is
//! refused by name; nothing is skipped. What a file says of its own size is believed only as far as
//! its bytes reach, and what reading may take beyond them is bounded.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::graph::Graph;
use crate::network::Normalisation;
use crate::tap::Rows;
use crate::tensor::Shape;
use crate::weights::shown;
use crate::{Error, ErrorKind, Result};
use call::Call;
use external::Files;
use function::Calls;
use import::{Importer, Value};
use view::{View, row_major};

mod call;
mod constant;
mod external;
mod function;
mod import;
mod operators;
mod proto;
mod view;
mod wire;

/// The operator sets that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

/// The supported operators, each with the attributes it may have.
pub fn supported() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    operators::supported()
}

/// An ONNX file in memory, with the files that hold its weights.
#[derive(Debug)]
pub struct Model {
    bytes: Vec<u8>,
    files: Files,
    origin: String,
    sha256: String,
    input: Input,
}

/// The input of a model.
#[derive(Clone, Debug)]
struct Input {
    name: String,
    /// Height and width, `None` where they are symbolic.
    size: [Option<usize>; 2],
    channels_last: bool,
}

/// How a model is to be read.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Side of the square input, for a model that leaves it open.
    pub input_px: Option<usize>,
    /// Applied to pixels in [0, 1] before the model sees them.
    pub normalisation: Option<Normalisation>,
    /// The layers to mark as taps; without any, the model's first output.
    pub layers: &'a [&'a str],
    /// Whether token sequences begin with a class token: ONNX does not say.
    pub class_token: bool,
}

/// A layer that can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of the ONNX value.
    pub name: String,
    /// Name of the ONNX node that gives it; may be empty.
    pub node: String,
    /// The PyTorch module whose last value it is, innermost last; empty where the file does not say.
    pub modules: Vec<String>,
    /// Lengths as ONNX has them, the batch of one included.
    pub dims: Vec<usize>,
}

/// A model as the engine's graph.
#[derive(Debug)]
pub struct Imported {
    /// Its taps are the layers asked for, under the names asked for; its output the usual pooling of the first.
    pub graph: Graph,
    /// Every layer that can be asked for, in the order of the file.
    pub layers: Vec<Layer>,
    /// What was recognised and joined, and how often.
    pub fusions: BTreeMap<&'static str, usize>,
    /// Name of the layer that is read: the first asked for, or the model's output.
    pub layer: String,
}

impl Model {
    /// Reads a model and the files that hold its weights.
    ///
    /// # Errors
    /// `Io` if a file cannot be read; `Format` if it is no ONNX file, is cut off, or refers to a file outside of
    /// its folder; `Unsupported` for an operator set or an input that is not supported.
    pub fn open(path: &Path) -> Result<Model> {
        let origin = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|e| Error::new(ErrorKind::Io, &origin, "the model cannot be read").source(e))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Model::assemble(bytes, &origin, Some(folder))
    }

    /// Reads a model whose weights are all inside, as [`Model::open`] does. `origin` names it in messages.
    ///
    /// # Errors
    /// As [`Model::open`], without `Io`; `Format` also if weights lie in another file.
    pub fn from_bytes(bytes: Vec<u8>, origin: &str) -> Result<Model> {
        Model::assemble(bytes, origin, None)
    }

    fn assemble(bytes: Vec<u8>, origin: &str, folder: Option<&Path>) -> Result<Model> {
        let (input, files) = {
            let model = parse(&bytes, origin)?;
            let input = find_input(&model, origin)?;
            (input, Files::read(&model, bytes.len(), folder, origin)?)
        };
        let sha256 = files.sha256(&bytes);
        Ok(Model { bytes, files, origin: origin.to_owned(), sha256, input })
    }

    /// SHA-256 over the model's file and then the files of its weights in the order of their names.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Side of the square input, `None` where the model leaves it open.
    pub fn input_px(&self) -> Option<usize> {
        match self.input.size {
            [Some(h), Some(w)] if h == w => Some(h),
            _ => None,
        }
    }

    /// Builds the engine's graph.
    ///
    /// # Errors
    /// `Unsupported`, naming the node, for an operator or attribute that is not supported; `Format` for a model that
    /// contradicts itself; `UnknownLayer` for a layer that the model does not have; `ShapeMismatch` where the size of
    /// the input is missing or does not fit.
    pub fn import(&self, options: &Options) -> Result<Imported> {
        let px = self.resolve_px(options.input_px)?;
        let model = parse(&self.bytes, &self.origin)?;
        let proto = model.graph.as_ref().ok_or_else(|| not_onnx(&self.origin, "it holds no graph"))?;
        let output = *proto
            .outputs
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Format, &self.origin, "the model has no output"))?;
        let calls = Calls::of(&model, &self.origin)?;
        let inner_names = calls.names(&proto.nodes)?;
        let nodes = calls.bodies(&proto.nodes, &inner_names)?;
        let nodes = nodes.as_deref().unwrap_or(&proto.nodes);
        let names = Names::of(nodes);
        let wanted = match options.layers {
            [] => vec![output],
            layers => layers.iter().map(|l| names.find(l)).collect::<Result<_>>()?,
        };
        let mut given: HashSet<&str> = proto.tensors.iter().map(|t| t.name).collect();
        given.insert(&self.input.name);
        for node in nodes {
            if let Some(twice) = node.outputs.iter().find(|o| !o.is_empty() && !given.insert(o)) {
                let problem = format!("two nodes give the value `{}`", shown(twice));
                return Err(Error::new(ErrorKind::Format, &self.origin, problem));
            }
        }
        let mut kept: HashSet<&str> = wanted.iter().copied().collect();
        kept.insert(output);

        let mut graph = Graph::new(px);
        if let Some(norm) = options.normalisation {
            graph.add("normalisation", norm.affine(), &[0])?;
        }
        let pixels = graph.last();
        let mut importer = Importer::new(&model, nodes, &self.files, graph, kept);
        let (dims, order) = if self.input.channels_last {
            (vec![1, px, px, 3], row_major(4))
        } else {
            (vec![1, 3, px, px], vec![0, 2, 3, 1])
        };
        let input = proto.inputs.iter().find(|i| i.name == self.input.name).map_or("", |i| i.name);
        importer.set(input, Value::Active(View::dense(pixels, dims, &order)));

        let mut layers = Vec::new();
        for node in nodes {
            importer.read(node)?;
            for name in node.outputs.iter().copied() {
                if let Some(Value::Active(view)) = importer.value(name) {
                    let modules = names.modules_of(name).to_vec();
                    let dims = view.dims.clone();
                    layers.push(Layer { name: name.to_owned(), node: node.name.to_owned(), modules, dims });
                }
            }
        }
        let asked: Vec<&str> = if options.layers.is_empty() { vec![output] } else { options.layers.to_vec() };
        for (&name, &value) in asked.iter().zip(&wanted) {
            let Some(view) = importer.view_of(value) else {
                return Err(Error::new(
                    ErrorKind::UnknownLayer,
                    shown(name),
                    "this layer does not depend on the image",
                ));
            };
            let maker = importer.maker(value).ok_or_else(|| {
                Error::new(ErrorKind::UnknownLayer, shown(name), "this is the model's input, not a layer")
            })?;
            let call = Call { node: maker, opset: model.opset };
            let (node, rows) = tap(&mut importer, call, &view, options.class_token)?;
            importer.graph.tap(name, node, rows);
        }
        let (mut graph, fusions) = (importer.graph, importer.fusions);
        graph.read_at(&[(asked[0], None)])?;
        Ok(Imported { graph, layers, fusions, layer: asked[0].to_owned() })
    }

    fn resolve_px(&self, asked: Option<usize>) -> Result<usize> {
        let subject = format!("{}: input `{}`", self.origin, shown(&self.input.name));
        let wrong = |problem: &str| Error::new(ErrorKind::ShapeMismatch, &subject, problem);
        if let [Some(h), Some(w)] = self.input.size
            && h != w
        {
            return Err(wrong("is not square").expected("as many rows as columns", format!("{h} × {w}")));
        }
        let fixed = self.input.size[0].or(self.input.size[1]);
        let px = match (fixed, asked) {
            (Some(px), Some(asked)) if px != asked => {
                return Err(wrong("has another size than asked for")
                    .expected(format!("{px} px"), format!("{asked} px")));
            }
            (Some(px), _) | (None, Some(px)) => px,
            (None, None) => {
                return Err(
                    wrong("has no fixed height and width").remedy("Give the side in pixels with --input-px")
                );
            }
        };
        if !(1..=4096).contains(&px) {
            return Err(wrong("has an unsupported size").expected("1 to 4096 px", px));
        }
        Ok(px)
    }
}

/// The node of a layer as it is read, and what its rows are.
fn tap<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    view: &View,
    class_token: bool,
) -> Result<(usize, Rows)> {
    let order = view.order();
    match view.dims[..] {
        [1, c, h, w] => {
            // Channels lie innermost, whether the model counts them as axis 1 or as axis 3.
            let last = order.last() == Some(&3) && !(h == 1 && w == 1);
            let order: &[usize] = if last { &[0, 1, 2, 3] } else { &[0, 2, 3, 1] };
            let shape = if last { Shape::new(c, h, w) } else { Shape::new(h, w, c) };
            let placed = importer.place(call, view, order)?;
            Ok((importer.reshaped(call, placed.node, shape)?, Rows::Pixels))
        }
        [1, tokens, c] => {
            let placed = importer.place(call, view, &row_major(3))?;
            let node = importer.reshaped(call, placed.node, Shape::new(tokens, 1, c))?;
            Ok((node, Rows::Tokens { prefix: usize::from(class_token), class: class_token }))
        }
        _ => {
            let placed = importer.place(call, view, &row_major(view.rank()))?;
            Ok((importer.reshaped(call, placed.node, Shape::new(1, 1, view.len()))?, Rows::Pixels))
        }
    }
}

fn not_onnx(origin: &str, why: &str) -> Error {
    Error::new(ErrorKind::Format, origin, format!("this is no whole ONNX file: {why}"))
        .remedy("Export it with torch.onnx.export, or fetch it again if it was cut off")
}

/// Parses a model and checks what can be checked at once.
fn parse<'a>(bytes: &'a [u8], origin: &str) -> Result<proto::Model<'a>> {
    let model = proto::read(bytes).map_err(|e| not_onnx(origin, e.0))?;
    let Some(graph) = &model.graph else { return Err(not_onnx(origin, "it holds no graph")) };
    if graph.nodes.is_empty() || model.opset == 0 {
        return Err(not_onnx(origin, "it holds no operators, or no version of their set"));
    }
    if !OPSETS.contains(&model.opset) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            origin,
            "the model is of an unsupported operator set",
        )
        .expected("opset 11 to 21", model.opset)
        .remedy("Export it again with opset_version=18"));
    }
    if graph.has_sparse {
        return Err(Error::new(ErrorKind::Unsupported, origin, "the model has sparse tensors"));
    }
    Ok(model)
}

/// The one input of a model that is no tensor of the file.
fn find_input(model: &proto::Model, origin: &str) -> Result<Input> {
    let graph = model.graph.as_ref().ok_or_else(|| not_onnx(origin, "it holds no graph"))?;
    let stored: HashSet<&str> = graph.tensors.iter().map(|t| t.name).collect();
    let inputs: Vec<_> = graph.inputs.iter().filter(|i| !stored.contains(i.name)).collect();
    let unsupported = |problem: &str| Error::new(ErrorKind::Unsupported, origin, problem);
    let [input] = inputs[..] else {
        let names: Vec<String> = inputs.iter().take(8).map(|i| shown(i.name)).collect();
        return Err(unsupported("the model does not have exactly one input")
            .expected("one image", format!("{} inputs: {}", inputs.len(), names.join(", "))));
    };
    if !matches!(input.dtype, 1 | 10 | 11 | 16) {
        return Err(unsupported("the model's input is not floating-point")
            .expected("float32", proto::dtype_name(input.dtype)));
    }
    let length = |d: &Option<i64>| d.and_then(|d| usize::try_from(d).ok()).filter(|d| *d > 0);
    let dims: Vec<Option<usize>> = input.dims.iter().map(length).collect();
    let shape = || {
        let one = |d: &Option<usize>| d.map_or("?".to_owned(), |d| d.to_string());
        dims.iter().map(one).collect::<Vec<_>>().join(" × ")
    };
    let (channels_last, size) = match dims[..] {
        [None | Some(1), Some(3), h, w] => (false, [h, w]),
        [None | Some(1), h, w, Some(3)] => (true, [h, w]),
        [None | Some(1), None, h, w] => (false, [h, w]),
        _ => {
            return Err(unsupported("the model's input is not one RGB image")
                .expected("1 × 3 × height × width or 1 × height × width × 3", shape()));
        }
    };
    Ok(Input { name: input.name.to_owned(), size, channels_last })
}

/// Names under which values can be asked for.
struct Names<'m> {
    nodes: &'m [proto::Node<'m>],
    /// The value each module ends in.
    modules: BTreeMap<String, &'m str>,
    of_value: BTreeMap<&'m str, Vec<String>>,
}

impl<'m> Names<'m> {
    fn of(nodes: &'m [proto::Node<'m>]) -> Self {
        let mut modules = BTreeMap::new();
        for node in nodes {
            let Some(&value) = node.outputs.iter().find(|o| !o.is_empty()) else { continue };
            for module in modules_around(node) {
                modules.insert(module, value);
            }
        }
        let mut of_value: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (module, &value) in &modules {
            of_value.entry(value).or_default().push(module.clone());
        }
        Names { nodes, modules, of_value }
    }

    fn modules_of(&self, value: &str) -> &[String] {
        self.of_value.get(value).map_or(&[], |m| &m[..])
    }

    /// The value that `name` stands for: a value, a node, or a module.
    fn find(&self, name: &str) -> Result<&'m str> {
        let first = |n: &proto::Node<'m>| n.outputs.iter().copied().find(|o| !o.is_empty());
        let by_value =
            self.nodes.iter().flat_map(|n| &n.outputs).copied().find(|o| *o == name && !o.is_empty());
        let by_node = || self.nodes.iter().find(|n| n.name == name).and_then(first);
        let by_module = || self.modules.get(name.trim_matches('/')).copied();
        // As the older exporter writes module paths: /layer1/layer1.0.
        let prefix = format!("{}/", name.trim_end_matches('/'));
        let by_prefix = || self.nodes.iter().rev().find(|n| n.name.starts_with(&prefix)).and_then(first);
        by_value.or_else(by_node).or_else(by_module).or_else(by_prefix).ok_or_else(|| {
            const MOST: usize = 40;
            let all: Vec<&str> = if self.modules.is_empty() {
                self.nodes.iter().filter_map(first).collect()
            } else {
                self.modules.keys().map(String::as_str).collect()
            };
            let mut listed = all.iter().take(MOST).map(|n| shown(n)).collect::<Vec<_>>().join(", ");
            if all.len() > MOST {
                listed.push_str(&format!(" and {} more", all.len() - MOST));
            }
            Error::new(
                ErrorKind::UnknownLayer,
                shown(name),
                "the model cannot be read at a layer of that name",
            )
            .expected(listed, shown(name))
            .remedy("`anomaly-score backbones check MODEL` lists all")
        })
    }
}

/// The modules a node belongs to, outermost first, by their paths (`blocks.0.attn`).
fn modules_around(node: &proto::Node) -> Vec<String> {
    if !node.scopes.is_empty() {
        // ['', 'layer1', 'layer1.0', 'conv2d_1']: the model, its modules, the operation.
        let inside = node.scopes.trim_matches(['[', ']']);
        let mut scopes: Vec<&str> = inside.split(", ").map(|s| s.trim_matches(['\'', '"'])).collect();
        scopes.pop();
        return scopes.into_iter().filter(|s| !s.is_empty()).map(str::to_owned).collect();
    }
    // /blocks/blocks.0/attn/MatMul: each module under the name its parent has for it.
    let Some(path) = node.name.strip_prefix('/') else { return vec![] };
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    let mut paths: Vec<String> = Vec::new();
    for part in parts {
        let next = match paths.last() {
            None => part.to_owned(),
            Some(parent) => {
                let own = parent.rsplit('.').next().unwrap_or(parent);
                // `blocks` holds `blocks.0`; `layer1.0` holds `conv1`.
                match part.strip_prefix(own).filter(|rest| rest.starts_with('.')) {
                    Some(rest) => format!("{parent}{rest}"),
                    None => format!("{parent}.{part}"),
                }
            }
        };
        paths.push(next);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_paths_of_both_exporters() {
        let legacy = proto::Node { name: "/blocks/blocks.0/attn/MatMul", ..Default::default() };
        assert_eq!(modules_around(&legacy), ["blocks", "blocks.0", "blocks.0.attn"]);
        let scopes = "['', 'blocks', 'blocks.0', 'blocks.0.attn', 'matmul']";
        let newer = proto::Node { scopes, ..Default::default() };
        assert_eq!(modules_around(&newer), ["blocks", "blocks.0", "blocks.0.attn"]);
    }

    #[test]
    fn supported_operators_are_named_once() {
        let names = operators::names();
        assert!(names.windows(2).all(|w| w[0] < w[1]), "{names:?}");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/onnx.md");
        let documented = std::fs::read_to_string(file).unwrap();
        assert!(documented.contains(&format!("\n{}.\n", names.join(", "))), "docs/onnx.md lists others");
    }
}
