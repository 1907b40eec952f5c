//! Whether to try again, and after which pause.

use std::time::Duration;

use crate::config::Retries;
use crate::error::Error;

/// A failed try, with the pause that the server asked for.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            retry_after: None,
        }
    }
}

/// Counts the tries of one call.
#[derive(Debug)]
pub(crate) struct Backoff {
    retries: Retries,
    failed: u32,
}

impl Backoff {
    pub(crate) fn new(retries: &Retries) -> Self {
        Self {
            retries: retries.clone(),
            failed: 0,
        }
    }

    /// Begins to count anew: something went well.
    pub(crate) const fn reset(&mut self) {
        self.failed = 0;
    }

    /// Sleeps before the next try, or gives the error back when there is to be none.
    pub(crate) async fn pause(&mut self, failed: Failed) -> Result<(), Error> {
        self.failed = self.failed.saturating_add(1);
        let delay = delay(
            &self.retries,
            self.failed,
            failed.retry_after,
            fastrand::f64(),
        );
        match delay {
            Some(delay) if failed.error.retryable() => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            _ => Err(failed.error),
        }
    }
}

/// The pause after the `failed`-th failed try (from 1), or `None` when it was the last one. `jitter`
/// is from 0 to 1 and takes away up to half of the client's own pause, so that many clients don't
/// come back at once; what the server asked for is never shortened.
fn delay(
    retries: &Retries,
    failed: u32,
    retry_after: Option<Duration>,
    jitter: f64,
) -> Option<Duration> {
    if failed >= retries.attempts
        || retry_after.is_some_and(|asked| asked > retries.max_retry_after)
    {
        return None;
    }
    let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
    let own = retries.base.saturating_mul(doubled).min(retries.max);
    let own = own.mul_f64(1.0 - jitter / 2.0);
    Some(own.max(retry_after.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries() -> Retries {
        Retries {
            attempts: 4,
            base: Duration::from_millis(100),
            max: Duration::from_millis(300),
            max_retry_after: Duration::from_secs(2),
        }
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_ends_with_the_last_try() {
        let pauses: Vec<_> = (1..=4).map(|n| delay(&retries(), n, None, 0.0)).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [ms(100), ms(200), ms(300), None]);
        assert_eq!(delay(&retries(), 1, None, 1.0), ms(50));
    }

    #[test]
    fn what_the_server_asked_for_is_never_shortened() {
        let asked = Some(Duration::from_secs(1));
        assert_eq!(delay(&retries(), 1, asked, 1.0), asked);
        let too_long = Some(Duration::from_secs(3));
        assert_eq!(delay(&retries(), 1, too_long, 0.0), None);
    }
}
