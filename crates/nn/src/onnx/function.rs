//! Functions that a model brings along: each call gives way to the function's body, whose own values get names of
//! their own. Unoptimised files of PyTorch's newer exporter are made of them.
//!
//! Source: onnx/onnx, `docs/IR.md` (v1.17.0), "Functions".

use std::collections::HashMap;

use super::proto::{Attribute, Function, Model, Node};
use crate::weights::shown;
use crate::{Error, ErrorKind, Result};

/// The most operators, inputs, outputs and numbers that calls may come to: a few bytes can call for many.
const MOST_PARTS: usize = 400_000;
/// How deep functions may call each other.
const MOST_DEPTH: usize = 16;
/// The longest name of a value inside of a function; calls within calls would add up.
const LONGEST_NAME: usize = 128;

/// Names of the values inside of functions, in the order in which [`Calls::bodies`] takes them.
pub(super) struct InnerNames(Vec<String>);

/// The functions of a model by domain, name and overload.
pub(super) struct Calls<'f> {
    functions: HashMap<[&'f str; 3], &'f Function<'f>>,
    origin: &'f str,
}

/// What is being put together.
struct Expansion<'n, 'a> {
    /// Gives a name a life of its own.
    fresh: &'n mut dyn FnMut(String) -> &'a str,
    nodes: Vec<Node<'a>>,
    /// Names made.
    named: usize,
    parts: usize,
}

/// How much a node counts for.
fn parts(node: &Node) -> usize {
    let numbers = |attribute: &Attribute| match attribute {
        Attribute::Floats(v) => v.len(),
        Attribute::Ints(v) => v.len(),
        _ => 1,
    };
    let attributes: usize = node.attributes.iter().map(|(_, a)| 1 + numbers(a)).sum();
    1 + node.inputs.len() + node.outputs.len() + attributes
}

impl<'a> Expansion<'_, 'a> {
    /// A name for the value `inner` of the call that gives `label`, `depth` calls deep.
    fn name(&mut self, label: &str, inner: &str, depth: usize) -> &'a str {
        self.named += 1;
        // Only the calls of the graph itself give values of different names.
        let fits = depth == 0 && label.len() + inner.len() < LONGEST_NAME;
        let name = if fits { format!("{label}/{inner}") } else { format!("inner value {}", self.named) };
        (self.fresh)(name)
    }
}

impl<'f> Calls<'f> {
    /// # Errors
    /// `Unsupported` if a function is of another operator set than the model; `Format` if two have one name.
    pub(super) fn of(model: &'f Model<'f>, origin: &'f str) -> Result<Self> {
        let mut functions = HashMap::new();
        for f in &model.functions {
            let subject = || format!("{origin}: function `{}`", shown(f.name));
            if f.opset != 0 && f.opset != model.opset {
                let problem = "is of another operator set than the model";
                return Err(Error::new(ErrorKind::Unsupported, subject(), problem)
                    .expected(format!("opset {}", model.opset), f.opset));
            }
            if functions.insert([f.domain, f.name, f.overload], f).is_some() {
                return Err(Error::new(ErrorKind::Format, subject(), "is there twice"));
            }
        }
        Ok(Calls { functions, origin })
    }

    /// The names that the values inside of all calls among `nodes` will have.
    ///
    /// # Errors
    /// As [`Calls::bodies`].
    pub(super) fn names(&self, nodes: &[Node<'f>]) -> Result<InnerNames> {
        let mut names = Vec::new();
        if self.functions.is_empty() {
            return Ok(InnerNames(names));
        }
        let mut placeholder = |name| {
            names.push(name);
            // Stands for the name, which is not there yet.
            "_"
        };
        self.walk(nodes, &mut placeholder)?;
        Ok(InnerNames(names))
    }

    /// `nodes` with the body of its function in place of each call; `None` where there are no functions.
    ///
    /// # Errors
    /// `Format` for a body that reads what it does not have; `Unsupported` for functions that call each other without
    /// end, or come to too many operators.
    pub(super) fn bodies<'a>(
        &self,
        nodes: &[Node<'a>],
        names: &'a InnerNames,
    ) -> Result<Option<Vec<Node<'a>>>>
    where
        'f: 'a,
    {
        if self.functions.is_empty() {
            return Ok(None);
        }
        let mut left = names.0.iter();
        let mut next = |_| left.next().map_or("", |name| name);
        self.walk(nodes, &mut next).map(Some)
    }

    fn walk<'a>(&self, nodes: &[Node<'a>], fresh: &mut dyn FnMut(String) -> &'a str) -> Result<Vec<Node<'a>>>
    where
        'f: 'a,
    {
        let mut all = Expansion { fresh, nodes: Vec::new(), named: 0, parts: 0 };
        nodes.iter().try_for_each(|node| self.expand(node.clone(), 0, &mut all))?;
        Ok(all.nodes)
    }

    fn expand<'a>(&self, node: Node<'a>, depth: usize, all: &mut Expansion<'_, 'a>) -> Result<()>
    where
        'f: 'a,
    {
        let function = self.functions.get(&[node.domain, node.op, node.overload]).copied();
        let error = |kind, problem: &str| {
            Error::new(kind, format!("{}: function `{}`", self.origin, shown(node.op)), problem)
        };
        all.parts += if depth > 0 { parts(&node) } else { 0 };
        if all.parts > MOST_PARTS || depth > MOST_DEPTH {
            return Err(error(ErrorKind::Unsupported, "calls of functions come to too much")
                .expected(format!("{MOST_PARTS} parts, {MOST_DEPTH} calls deep"), "more"));
        }
        let Some(function) = function else {
            all.nodes.push(node);
            return Ok(());
        };
        let mut names: HashMap<&str, &'a str> = HashMap::from([("", "")]);
        for (i, formal) in function.inputs.iter().enumerate() {
            names.insert(formal, node.inputs.get(i).copied().unwrap_or(""));
        }
        let given = function.outputs.iter().copied().zip(node.outputs.iter().copied());
        let given: Vec<(&str, &'a str)> = given.filter(|(_, actual)| !actual.is_empty()).collect();
        let label = given.first().map_or("", |(_, actual)| actual);
        for inner in &function.nodes {
            let missing = || error(ErrorKind::Format, "its body reads a value that nothing before gives");
            let inputs = inner.inputs.iter().map(|i| names.get(i).copied().ok_or_else(missing));
            let inputs = inputs.collect::<Result<Vec<&'a str>>>()?;
            let mut ends = false;
            let mut outputs = Vec::new();
            for &output in &inner.outputs {
                let actual = given.iter().find(|(formal, _)| *formal == output).map(|(_, actual)| *actual);
                ends |= actual.is_some();
                let name = match actual {
                    Some(actual) => actual,
                    None if output.is_empty() => "",
                    None => all.name(label, output, depth),
                };
                names.insert(output, name);
                outputs.push(name);
            }
            let attributes = inner.attributes.iter().filter_map(|(name, value)| {
                let Attribute::Reference(outer) = value else { return Some((*name, value.clone())) };
                let mut known = node.attributes.iter().chain(&function.defaults);
                known.find(|(n, _)| n == outer).map(|(_, value)| (*name, value.clone()))
            });
            let inner = Node {
                // The call's name leads to its end.
                name: if ends { node.name } else { "" },
                inputs,
                outputs,
                attributes: attributes.collect(),
                scopes: node.scopes,
                ..inner.clone()
            };
            self.expand(inner, depth + 1, all)?;
        }
        // An output that is an input.
        for &(formal, actual) in given.iter().filter(|(formal, _)| function.inputs.contains(formal)) {
            let inputs = vec![names.get(formal).copied().unwrap_or("")];
            let outputs = vec![actual];
            all.nodes.push(Node { name: node.name, op: "Identity", inputs, outputs, ..Default::default() });
        }
        Ok(())
    }
}
