//! Which instructions the engine computes with, as far as results and users have to do with it.

use nn::kernel::isa::Isa;

use crate::{Error, ErrorKind, Result};

/// Environment variable that names the instructions to compute with; unset or empty: the widest this machine has.
pub const ISA_VARIABLE: &str = "ANOMALY_SCORE_ISA";

/// What the variable may say, each with its [`Isa::arithmetic`]; of one arithmetic, what most machines have comes first.
const SETS: [(&str, &str); 4] =
    [("portable", "separate"), ("avx2", "fused"), ("avx512", "fused"), ("amx", "bfloat16x3")];

/// Name of the rounding that networks are computed with in this process: `separate`, `fused` or `bfloat16x3`
/// ([`Isa::arithmetic`]). Sets of instructions of one arithmetic give the same bits.
pub fn arithmetic() -> &'static str {
    Isa::detect().arithmetic()
}

/// What `ANOMALY_SCORE_ISA` has to say for this arithmetic; `None` for one this program does not know.
pub(crate) fn isa_of(arithmetic: &str) -> Option<&'static str> {
    SETS.iter().find(|(_, a)| *a == arithmetic).map(|(isa, _)| *isa)
}

/// Refuses an `ANOMALY_SCORE_ISA` that this machine cannot follow; the engine by itself would take its widest instructions
/// instead.
///
/// # Errors
/// `InvalidOption`, naming what this machine has.
pub fn check_instructions() -> Result<()> {
    let Some(wanted) = std::env::var_os(ISA_VARIABLE).filter(|v| !v.is_empty()) else { return Ok(()) };
    let available: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    check(&wanted.to_string_lossy(), &available)
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
        assert_eq!((isa_of("separate"), isa_of("fused")), (Some("portable"), Some("avx2")));
        assert_eq!((isa_of("bfloat16x3"), isa_of("decimal")), (Some("amx"), None));
        assert!(SETS.iter().any(|(_, a)| *a == arithmetic()));
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
