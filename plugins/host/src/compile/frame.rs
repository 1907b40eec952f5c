//! What goes through the pipes between parent and child: the length of a JSON head (u32, little
//! endian), the head, then bytes to the end. Both are the same build, so it carries no version.

use crate::description::Description;
use crate::probe::ProbeReport;
use crate::rejection::Rejection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The child's answer; the machine code follows an acceptance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Verdict {
    /// It may be used.
    Accepted {
        /// What it says about itself.
        description: Description,
        /// The engine hash, hexadecimal.
        engine: String,
        /// What the probe measured.
        probe: ProbeReport,
    },
    /// It may not.
    Rejected(Rejection),
    /// The child couldn't tell.
    Internal(String),
}

/// The longest head; a head is some limits, or a description whose length is limited.
const HEAD_MAX_BYTES: usize = 4 << 20;

pub(super) fn encode<T: Serialize>(head: &T, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let head = serde_json::to_vec(head).map_err(|e| e.to_string())?;
    let length = u32::try_from(head.len()).map_err(|e| e.to_string())?;
    let mut frame = Vec::with_capacity(4 + head.len() + bytes.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(bytes);
    Ok(frame)
}

pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<(T, &[u8]), String> {
    let (length, rest) = frame.split_first_chunk().ok_or("the frame has no length")?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEAD_MAX_BYTES {
        return Err(format!("the head of the frame has {length} bytes"));
    }
    let (head, bytes) = rest
        .split_at_checked(length)
        .ok_or("the frame is cut short")?;
    let head = serde_json::from_slice(head).map_err(|e| format!("the head of the frame: {e}"))?;
    Ok((head, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_broken_ones_are_refused() {
        let frame = encode(&["head", "s"], b"bytes").unwrap();
        let (head, bytes): (Vec<String>, _) = decode(&frame).unwrap();
        assert_eq!(
            (head, bytes),
            (vec!["head".to_owned(), "s".to_owned()], &b"bytes"[..])
        );
        let head_ends = frame.len() - 5;
        for length in 0..head_ends {
            assert!(
                decode::<Vec<String>>(&frame[..length]).is_err(),
                "length {length}"
            );
        }
        assert!(decode::<Vec<String>>(&[0xff; 64]).is_err());
    }
}
