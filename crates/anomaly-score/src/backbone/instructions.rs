//! How networks round, and which instructions they are computed with for that.

use nn::kernel::isa::Isa;

use crate::{Error, ErrorKind, Result};

/// Environment variable that names the instructions to compute with, whatever [`Arithmetic`] is asked for: a tool for comparing
/// kernels. Unset or empty: as asked.
pub const ISA_VARIABLE: &str = "ANOMALY_SCORE_ISA";

/// What the variable may say, each with its [`Isa::arithmetic`].
const SETS: [(&str, &str); 4] =
    [("portable", "separate"), ("avx2", "fused"), ("avx512", "fused"), ("amx", "bfloat16x3")];

/// How a network is to round. The engine gives the same bits for the same image, network and arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// By the widest instructions whose bits every x86-64 machine with AVX2 gives; where there is no AVX2, by the only ones there are.
    #[default]
    Fused,
    /// By the widest instructions this machine has, Intel's tile unit (AMX) included, which has bits of its own.
    Fastest,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Arithmetic; 2] = [Arithmetic::Fused, Arithmetic::Fastest];

    /// Name of the rounding that networks have which this process loads so: `separate`, `fused` or `bfloat16x3`
    /// ([`Isa::arithmetic`]).
    pub fn rounding(self) -> &'static str {
        self.instructions().arithmetic()
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Fused => "fused",
            Arithmetic::Fastest => "fastest",
        }
    }

    /// What networks are computed with: what [`ISA_VARIABLE`] names, otherwise the widest that rounds so.
    pub(super) fn instructions(self) -> Isa {
        match named() {
            Some(_) => Isa::detect(),
            None => self.of(Isa::detect()),
        }
    }

    /// The widest set that rounds so on a machine whose widest is `widest`.
    fn of(self, widest: Isa) -> Isa {
        match self {
            Arithmetic::Fused => widest.without_tiles(),
            Arithmetic::Fastest => widest,
        }
    }

    /// Refuses this choice of the user beside an [`ISA_VARIABLE`] that rounds otherwise.
    ///
    /// # Errors
    /// `InvalidOption`, naming both.
    pub fn require_no_other(self) -> Result<()> {
        let available = Isa::available();
        let wanted = named();
        let named = available.iter().find(|isa| wanted.as_deref() == Some(isa.name()));
        named.map_or(Ok(()), |&named| self.require_rounding_of(named, available[0]))
    }

    fn require_rounding_of(self, named: Isa, widest: Isa) -> Result<()> {
        let rounding = self.of(widest).arithmetic();
        if named.arithmetic() == rounding {
            return Ok(());
        }
        let (name, isa, other) = (self.name(), named.name(), named.arithmetic());
        Err(Error::new(ErrorKind::InvalidOption, "--arithmetic", format!("{ISA_VARIABLE} asks for another"))
            .expected(
                format!("instructions of arithmetic {rounding}, which `{name}` is on this machine"),
                format!("{ISA_VARIABLE}={isa}, of arithmetic {other}"),
            )
            .remedy("Leave out one of the two"))
    }
}

/// How to have this arithmetic; `None` for one this program does not know.
pub(crate) fn way_to(arithmetic: &str) -> Option<&'static str> {
    match arithmetic {
        "fused" => Some("--arithmetic fused on an x86-64 machine with AVX2"),
        "bfloat16x3" => Some("--arithmetic fastest on a machine with Intel's AMX"),
        "separate" => Some("ANOMALY_SCORE_ISA=portable"),
        _ => None,
    }
}

/// What the user has set the variable to.
fn named() -> Option<String> {
    let value = std::env::var_os(ISA_VARIABLE).filter(|v| !v.is_empty())?;
    Some(value.to_string_lossy().into_owned())
}

/// Refuses an `ANOMALY_SCORE_ISA` that this machine cannot follow; the engine by itself would take its widest instructions
/// instead.
///
/// # Errors
/// `InvalidOption`, naming what this machine has.
pub fn check_instructions() -> Result<()> {
    let Some(wanted) = named() else { return Ok(()) };
    let available: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    check(&wanted, &available)
}

fn check(wanted: &str, available: &[&str]) -> Result<()> {
    if available.contains(&wanted) {
        return Ok(());
    }
    let problem = if SETS.iter().any(|(isa, _)| *isa == wanted) {
        "this machine lacks these instructions"
    } else {
        "no instructions have this name"
    };
    Err(Error::new(ErrorKind::InvalidOption, ISA_VARIABLE, problem)
        .expected(format!("one that this machine has ({})", available.join(", ")), wanted)
        .remedy("Unset it for the first of these"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_the_engine_s() {
        for isa in Isa::available() {
            assert!(SETS.contains(&(isa.name(), isa.arithmetic())), "{isa:?}");
        }
        assert!(SETS.iter().all(|(_, arithmetic)| way_to(arithmetic).is_some()));
        assert_eq!(way_to("decimal"), None);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn fused_is_the_widest_without_the_tile_unit() {
        let of = |widest| Arithmetic::ALL.map(|asked| asked.of(widest));
        assert_eq!(of(Isa::Amx), [Isa::Avx512, Isa::Amx]);
        for widest in [Isa::Avx512, Isa::Avx2, Isa::Portable] {
            assert_eq!(of(widest), [widest; 2]);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_choice_and_a_variable_that_disagree_are_refused() {
        let agree = |asked: Arithmetic, named, widest| asked.require_rounding_of(named, widest).is_ok();
        let fused = |named, widest| agree(Arithmetic::Fused, named, widest);
        let fastest = |named, widest| agree(Arithmetic::Fastest, named, widest);
        assert!(fused(Isa::Avx2, Isa::Amx) && fused(Isa::Avx512, Isa::Amx) && fused(Isa::Avx2, Isa::Avx2));
        assert!(!fused(Isa::Amx, Isa::Amx) && !fused(Isa::Portable, Isa::Avx2));
        assert!(fastest(Isa::Amx, Isa::Amx) && fastest(Isa::Avx2, Isa::Avx512));
        assert!(!fastest(Isa::Avx512, Isa::Amx) && !fastest(Isa::Portable, Isa::Avx2));
        assert!(fused(Isa::Portable, Isa::Portable) && fastest(Isa::Portable, Isa::Portable));
        assert_eq!(
            Arithmetic::Fastest.require_rounding_of(Isa::Avx2, Isa::Amx).unwrap_err().to_string(),
            "--arithmetic: ANOMALY_SCORE_ISA asks for another; expected instructions of arithmetic bfloat16x3, which `fastest` is on \
             this machine, found ANOMALY_SCORE_ISA=avx2, of arithmetic fused. Leave out one of the two"
        );
    }

    #[test]
    fn instructions_that_are_not_there_are_refused() {
        let narrow = ["avx2", "portable"];
        assert!(check("avx2", &narrow).is_ok() && check("portable", &narrow).is_ok());
        let said = |wanted| check(wanted, &narrow).unwrap_err().to_string();
        assert_eq!(
            said("amx"),
            "ANOMALY_SCORE_ISA: this machine lacks these instructions; expected one that this machine has (avx2, portable), \
             found amx. Unset it for the first of these"
        );
        assert_eq!(
            said("AVX2"),
            "ANOMALY_SCORE_ISA: no instructions have this name; expected one that this machine has (avx2, portable), found \
             AVX2. Unset it for the first of these"
        );
    }
}
