//! Is the file whole? Some decoders fill what is missing; these walks ask the container first.

use crate::image::kind::Kind;
use crate::image::unreadable::Unreadable;

/// Walks the chunks to `IEND`.
pub(super) fn png(bytes: &[u8]) -> Result<(), Unreadable> {
    let mut at = 8;
    loop {
        let Some(head) = bytes.get(at..at + 8) else {
            return Err(Unreadable::truncated(Kind::Png, "the file ends before the IEND chunk"));
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at + 12 + length;
        if end > bytes.len() {
            let name = head[4..8].escape_ascii();
            let detail = format!("the file ends inside its {name} chunk, {} bytes short", end - bytes.len());
            return Err(Unreadable::truncated(Kind::Png, detail));
        }
        if &head[4..8] == b"IEND" {
            return Ok(());
        }
        at = end;
    }
}

/// Compares the RIFF length with the file's.
pub(super) fn webp(bytes: &[u8]) -> Result<(), Unreadable> {
    let claimed = bytes.get(4..8).map_or(0, |n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize + 8);
    if claimed > bytes.len() {
        let detail = format!("the header announces {claimed} bytes, the file has {}", bytes.len());
        return Err(Unreadable::truncated(Kind::WebP, detail));
    }
    Ok(())
}

/// Walks the blocks; the number of frames, counted to 2. The first frame must be whole; what follows need not be.
pub(super) fn gif(bytes: &[u8]) -> Result<usize, Unreadable> {
    let mut frames = 0;
    let mut at = 13 + colour_table(bytes.get(10).copied().unwrap_or(0));
    while frames < 2 {
        let next = match bytes.get(at) {
            Some(b'!') => sub_blocks(bytes, at + 2),
            Some(b',') => {
                let table = colour_table(bytes.get(at + 9).copied().unwrap_or(0));
                sub_blocks(bytes, at + 11 + table)
            }
            // The trailer, padding, the end of the file or garbage: no further frame.
            _ => break,
        };
        let Some(next) = next else { break };
        frames += usize::from(bytes[at] == b',');
        at = next;
    }
    if frames == 0 {
        return Err(Unreadable::truncated(Kind::Gif, "the file ends before its first frame does"));
    }
    Ok(frames)
}

/// Compares where the pixels of a bitmap start with where its headers end.
pub(super) fn bmp(bytes: &[u8]) -> Result<(), Unreadable> {
    let word =
        |at: usize| bytes.get(at..at + 4).map(|n| u64::from(u32::from_le_bytes([n[0], n[1], n[2], n[3]])));
    let (Some(pixels), Some(header)) = (word(10), word(14)) else {
        return Err(Unreadable::truncated(Kind::Bmp, "the file ends inside its header"));
    };
    let mut end = 14 + header;
    // The oldest header has colours of 3 bytes and no count of them; it is left to the decoder.
    if let (40.., Some(depth @ (1 | 2 | 4 | 8)), Some(used)) = (header, bytes.get(28), word(46)) {
        end += 4 * if used == 0 { 1 << depth } else { used };
    }
    if pixels < end {
        let detail = format!("the pixels start at byte {pixels}, the headers end at {end}");
        return Err(Unreadable::corrupt(Kind::Bmp, detail));
    }
    Ok(())
}

/// The length of the colour table that a GIF's packed flags announce.
fn colour_table(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// The position after a run of length-prefixed blocks and its terminator.
fn sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
