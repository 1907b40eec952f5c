//! A sum that doesn't depend on the order of its terms.

use super::state::{Reader, put};
use crate::error::EngineError;

/// An exact sum (Shewchuk 1997): parts whose bits don't overlap, smallest first. Rounded once, in
/// the end. Not a number once a term wasn't finite.
#[derive(Debug, Clone, Default)]
pub(super) struct ExactSum {
    parts: Vec<f64>,
    undefined: bool,
}

impl ExactSum {
    pub(super) fn add(&mut self, mut term: f64) {
        if !term.is_finite() {
            self.undefined = true;
            return;
        }
        let mut kept = 0;
        for index in 0..self.parts.len() {
            let (sum, rest) = add_exactly(term, self.parts[index]);
            if rest != 0.0 {
                self.parts[kept] = rest;
                kept += 1;
            }
            term = sum;
        }
        self.parts.truncate(kept);
        self.parts.push(term);
    }

    /// The sum, rounded to the nearest.
    pub(super) fn value(&self) -> f64 {
        if self.undefined {
            return f64::NAN;
        }
        let mut parts = self.parts.iter().rev().copied();
        let mut sum = parts.next().unwrap_or(0.0);
        let mut rest = 0.0;
        for part in parts.by_ref() {
            (sum, rest) = add_exactly(sum, part);
            if rest != 0.0 {
                break;
            }
        }
        // Halfway between two numbers, what is below decides.
        let next = parts.next().unwrap_or(0.0);
        if (rest > 0.0 && next > 0.0) || (rest < 0.0 && next < 0.0) {
            let twice = rest * 2.0;
            let moved = sum + twice;
            if moved - sum == twice {
                return moved;
            }
        }
        sum
    }

    pub(super) fn save(&self, state: &mut Vec<u8>) {
        put(state, u64::from(self.undefined));
        put(state, self.parts.len() as u64);
        for part in &self.parts {
            put(state, part.to_bits());
        }
    }

    pub(super) fn merge(&mut self, state: &mut Reader<'_>) -> Result<(), EngineError> {
        self.undefined |= state.number()? != 0;
        for _ in 0..state.number()? {
            self.add(f64::from_bits(state.number()?));
        }
        Ok(())
    }
}

/// The rounded sum, and what is missing from it.
fn add_exactly(a: f64, b: f64) -> (f64, f64) {
    let (large, small) = if a.abs() < b.abs() { (b, a) } else { (a, b) };
    let sum = large + small;
    (sum, small - (sum - large))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(terms: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        terms.iter().for_each(|&term| sum.add(term));
        sum.value()
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        // Halfway to the next number, and a little more or less.
        let half = 2_f64.powi(-53);
        assert_eq!(sum(&[1.0, half]), 1.0);
        assert_eq!(sum(&[1.0, half, 1e-300]), 1.0 + 2.0 * half);
        assert_eq!(sum(&[1.0, half, -1e-300]), 1.0);
        assert!(sum(&[1.0, f64::INFINITY]).is_nan());
    }
}
