//! Reading a network in the middle: the places that can be read, and how a place becomes a feature vector.
//!
//! A builder marks the places with [`Graph::tap`]; [`Graph::read_at`] makes chosen ones the network's outputs.

use crate::graph::{Graph, NodeId, Op};
use crate::op::pool_rows::Statistic;
use crate::tensor::Shape;
use crate::{Error, ErrorKind, Result};

/// A place where a network can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The upstream name of the block or layer whose output it is.
    pub name: String,
    /// The node that computes it.
    pub node: NodeId,
    /// What its rows are.
    pub rows: Rows,
}

/// What the rows of an activation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Pixels of a feature map, or one vector.
    Pixels,
    /// Pixels of a feature map that is meant to be read whole, each at its place.
    Places,
    /// Tokens of a sequence.
    Tokens {
        /// Tokens before those of the patches: class token, registers.
        prefix: usize,
        /// Whether the first is a class token.
        class: bool,
    },
}

/// How an activation becomes one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Mean over pixels or patch tokens: C values.
    Mean,
    /// Standard deviation over pixels or patch tokens, divided by their number (not by one less): C values.
    Std,
    /// The class token: C values.
    Cls,
    /// Every value, channels last (H W C): H·W·C values.
    Flat,
}

impl Pool {
    /// All, by their names on the command line.
    pub const NAMES: [(&'static str, Pool); 4] =
        [("mean", Pool::Mean), ("cls", Pool::Cls), ("flat", Pool::Flat), ("std", Pool::Std)];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        Pool::NAMES.iter().find(|(_, p)| *p == self).map_or("", |(name, _)| name)
    }
}

impl Rows {
    /// How a place with such rows is read where nothing else is asked for: the class token if there is one, whole
    /// if it has only one row or is [`Rows::Places`], otherwise the mean.
    pub fn usual_pool(self, shape: Shape) -> Pool {
        match self {
            Rows::Tokens { class: true, .. } => Pool::Cls,
            Rows::Places => Pool::Flat,
            _ if shape.rows() == 1 => Pool::Flat,
            _ => Pool::Mean,
        }
    }
}

impl Graph {
    /// Marks the output of `node` as a place that can be read as `name`.
    pub fn tap(&mut self, name: impl Into<String>, node: NodeId, rows: Rows) {
        self.taps.push(Tap { name: name.into(), node, rows });
    }

    /// The places that can be read, in the order of the network.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The place called `name`.
    ///
    /// # Errors
    /// `UnknownLayer`, listing all names.
    pub fn find_tap(&self, name: &str) -> Result<&Tap> {
        self.taps.iter().find(|t| t.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.taps.iter().map(|t| t.name.as_str()).collect();
            Error::new(ErrorKind::UnknownLayer, name, "the network cannot be read at a layer of that name")
                .expected(
                    if names.is_empty() { "no layer: it has no taps".into() } else { names.join(", ") },
                    name,
                )
        })
    }

    /// Gives out the feature at each of `layers` instead of the network's own; without a pool, the usual one
    /// ([`Rows::usual_pool`]). Returns the pool each is read with.
    ///
    /// # Errors
    /// `UnknownLayer`, listing all names; `ShapeMismatch` for the class token of a layer without one.
    pub fn read_at(&mut self, layers: &[(&str, Option<Pool>)]) -> Result<Vec<Pool>> {
        let mut outputs = Vec::with_capacity(layers.len());
        let mut pools = Vec::with_capacity(layers.len());
        for &(name, pool) in layers {
            let Tap { name, node, rows } = self.find_tap(name)?.clone();
            let pool = pool.unwrap_or_else(|| rows.usual_pool(self.shape(node)));
            let skip = match rows {
                Rows::Pixels | Rows::Places => 0,
                Rows::Tokens { prefix, .. } => prefix,
            };
            let op = match pool {
                Pool::Mean => Op::PoolRows { skip, statistic: Statistic::Mean },
                Pool::Std => Op::PoolRows { skip, statistic: Statistic::StdDev },
                Pool::Flat => {
                    outputs.push(node);
                    pools.push(pool);
                    continue;
                }
                Pool::Cls if matches!(rows, Rows::Tokens { class: true, .. }) => Op::FirstTokens(1),
                Pool::Cls => {
                    let found = match rows {
                        Rows::Pixels | Rows::Places => format!("a feature map, {}", self.shape(node)),
                        Rows::Tokens { .. } => "tokens without one".into(),
                    };
                    return Err(Error::new(ErrorKind::ShapeMismatch, name, "this layer has no class token")
                        .expected("a sequence that begins with a class token", found)
                        .remedy("Use --pool mean"));
                }
            };
            outputs.push(self.add(format!("{name} {}", pool.name()), op, &[node])?);
            pools.push(pool);
        }
        self.outputs = outputs;
        Ok(pools)
    }
}
