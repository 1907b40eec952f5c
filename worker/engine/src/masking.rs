//! Chooses tokens to be predicted from the others, and hides them (Devlin et al. 2018).

use stoker_domain::job::FailureKind;
use stoker_model::Masking;

use crate::error::EngineError;
use crate::philox::Stream;
use crate::table::NOT_COUNTED;

/// Of 2^32: what is below the first becomes a mask, what is below the second another token.
const MASKED: u32 = 3_435_973_836;
const CHANGED: u32 = 3_865_470_566;

/// Hides tokens of rows.
#[derive(Clone, Copy)]
pub(crate) struct Masks {
    share: f32,
    token: f32,
    /// Token ids are below this.
    vocabulary: u32,
}

impl Masks {
    pub(crate) fn new(masking: Masking, vocabulary: usize) -> Self {
        Self {
            share: masking.share,
            token: masking.token as f32,
            vocabulary: u32::try_from(vocabulary).unwrap_or(u32::MAX),
        }
    }

    /// Hides some of a row's tokens, and appends to `classes` what they were; the other positions
    /// aren't counted. A position's numbers are at (position, `row`) of the stream. Where none was
    /// chosen the one with the lowest number is.
    ///
    /// # Errors
    /// `data` when a number isn't a token id, as after a preprocessing step that changed it.
    pub(crate) fn hide(
        &self,
        tokens: &mut [f32],
        classes: &mut Vec<u32>,
        (stream, row): (Stream, u32),
    ) -> Result<(), EngineError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of 2^32"
        )]
        let threshold = (f64::from(self.share) * 4_294_967_296.0) as u32;
        let first = classes.len();
        let mut lowest = (u32::MAX, 0);
        for (position, token) in (0_u32..).zip(&mut *tokens) {
            let class = self.class(*token)?;
            let words = stream.block(position, row);
            if words[0] < lowest.0 {
                lowest = (words[0], position);
            }
            if words[0] < threshold {
                classes.push(class);
                *token = self.instead(*token, words);
            } else {
                classes.push(NOT_COUNTED);
            }
        }
        let (word, position) = lowest;
        if word >= threshold
            && let Some(token) = tokens.get_mut(position as usize)
        {
            classes[first + position as usize] = self.class(*token)?;
            *token = self.instead(*token, stream.block(position, row));
        }
        Ok(())
    }

    fn class(&self, token: f32) -> Result<u32, EngineError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what changes is refused"
        )]
        let class = token as u32;
        if class as f32 == token && class < self.vocabulary {
            return Ok(class);
        }
        let message = format!("{token} is no token id below {}", self.vocabulary);
        Err(EngineError::new(FailureKind::Data, message))
    }

    /// What the model sees in a chosen token's place.
    fn instead(&self, token: f32, [_, kind, other, _]: [u32; 4]) -> f32 {
        if kind < MASKED {
            return self.token;
        }
        if kind < CHANGED {
            let below = u64::from(other) * u64::from(self.vocabulary);
            return (below >> 32) as f32;
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Purpose;

    const VOCABULARY: usize = 50;

    fn masks(share: f32) -> Masks {
        let token = VOCABULARY;
        Masks::new(Masking { share, token }, VOCABULARY)
    }

    fn hide(masks: &Masks, tokens: &[f32], row: u32) -> (Vec<f32>, Vec<u32>) {
        let (mut seen, mut classes) = (tokens.to_vec(), Vec::new());
        let stream = Stream::new(3, Purpose::MaskTrain, 0, 7);
        masks.hide(&mut seen, &mut classes, (stream, row)).unwrap();
        (seen, classes)
    }

    #[test]
    fn shares_are_kept() {
        let tokens: Vec<f32> = (0..100_000).map(|i| (i % VOCABULARY) as f32).collect();
        let (seen, classes) = hide(&masks(0.15), &tokens, 0);
        let (mut chosen, mut masked, mut kept) = (0, 0, 0);
        for ((&token, &seen), &class) in tokens.iter().zip(&seen).zip(&classes) {
            if class == NOT_COUNTED {
                assert_eq!(token, seen);
                continue;
            }
            assert_eq!(class as f32, token);
            chosen += 1;
            masked += usize::from(seen == VOCABULARY as f32);
            kept += usize::from(seen == token);
        }
        let near =
            |count: usize, share: f64, of: usize| (count as f64 / of as f64 - share).abs() < 0.01;
        assert!(near(chosen, 0.15, tokens.len()), "{chosen}");
        assert!(near(masked, 0.8, chosen), "{masked} of {chosen}");
        // A random token is the same one in fifty.
        assert!(near(kept, 0.102, chosen), "{kept} of {chosen}");
    }

    #[test]
    fn a_row_has_at_least_one() {
        for row in 0..200 {
            let (_, classes) = hide(&masks(1e-6), &[3.0, 4.0, 5.0], row);
            let chosen = classes.iter().filter(|&&class| class != NOT_COUNTED);
            assert_eq!(chosen.count(), 1);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for wrong in [-1.0, 0.5, VOCABULARY as f32, f32::NAN] {
            let stream = Stream::new(3, Purpose::MaskTrain, 0, 7);
            let error = masks(0.15).hide(&mut [1.0, wrong], &mut Vec::new(), (stream, 0));
            assert_eq!(error.unwrap_err().kind, FailureKind::Data);
        }
    }
}
