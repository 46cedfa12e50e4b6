//! Looks through the images a command is given before it begins.

use anomaly_score::preflight::{Options, Preflight, Question, Role, SetFacts};
use anyhow::Result;

use crate::args::Reading;
use crate::input::Input;
use crate::progress::{Bar, STOP};

/// Which images are looked at, and by how many threads.
pub(crate) struct Pass {
    pub(crate) limit: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
}

impl Pass {
    /// Over the images that will be measured.
    pub(crate) fn of(reading: &Reading) -> Pass {
        Pass { limit: reading.limit, seed: reading.seed, threads: reading.threads() }
    }

    /// Facts of one input.
    pub(crate) fn look_through(&self, input: &Input, role: Role) -> Result<SetFacts> {
        let source = match input {
            Input::Table(table, _) => return Ok(SetFacts::of_table(table, role)?),
            Input::Images(source) => source,
            Input::Features(matrix, _) => {
                let name = input.name();
                let n = matrix.features(&name)?.n();
                return Ok(SetFacts::of_numbers(&name, role, Some(n)));
            }
            Input::Statistics(statistics, _) => {
                let n = statistics.pooled.n().and_then(|n| usize::try_from(n).ok());
                return Ok(SetFacts::of_numbers(&input.name(), role, n));
            }
        };
        let bar = Bar::new(&format!("looking at {}", source.name()));
        let facts = SetFacts::of_source(
            source,
            role,
            &Options {
                limit: self.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
                seed: self.seed,
                threads: self.threads,
                stop: &STOP,
                progress: &|p| bar.update(p),
            },
        );
        bar.clear();
        Ok(facts?)
    }

    /// All inputs of a comparison.
    pub(crate) fn compare(
        &self,
        reference: &Input,
        generated: &[Input],
        held_out: Option<&Input>,
        question: &Question,
    ) -> Result<Preflight> {
        let mut sets = vec![self.look_through(reference, Role::Reference)?];
        for model in generated {
            sets.push(self.look_through(model, Role::Generated)?);
        }
        if let Some(input) = held_out {
            sets.push(self.look_through(input, Role::HeldOut)?);
        }
        Ok(Preflight::of(&sets, question))
    }
}

/// Prints the findings on stderr.
pub(crate) fn report(found: &Preflight) {
    eprint!("{}", found.text());
}
