//! Counts the blocks of a sequential Huffman-coded JPEG without decoding them.
//!
//! A file can end early and still look whole: a repaired download with an end-of-image marker put behind what had
//! arrived, or a damaged stretch in the middle. Decoders paint on; this walk says where the data ran out.

use super::jpeg::{Frame, Segments};
use crate::image::kind::Kind;
use crate::image::unreadable::Unreadable;

/// Walks every scan's coded data and checks that it lasts for all blocks of the scan.
///
/// What the walk cannot follow (a table that is missing, a component that no frame names) it leaves to the decoder.
pub(super) fn check_blocks(bytes: &[u8], frame: &Frame) -> Result<(), Unreadable> {
    let mut tables: [[Option<Table>; 4]; 2] = Default::default();
    let mut restart_interval = 0;
    for segment in Segments::new(bytes) {
        let segment = segment?;
        match segment.marker {
            0xC4 => read_tables(segment.body, &mut tables),
            0xDD if segment.body.len() == 2 => {
                restart_interval = usize::from(u16::from_be_bytes([segment.body[0], segment.body[1]]));
            }
            0xDA => {
                let Some(scan) = Scan::read(segment.body, frame, &tables) else { return Ok(()) };
                let data = &bytes[segment.start + segment.body.len()..];
                scan.check(data, restart_interval)?;
            }
            _ => {}
        }
    }
    Ok(())
}

const LOOKAHEAD: u32 = 9;

/// A Huffman table that tells how far to go: code length, and what the symbol announces.
struct Table {
    /// By the next [`LOOKAHEAD`] bits: code length and symbol, or length 0 where the code is longer.
    short: [(u8, u8); 1 << LOOKAHEAD],
    /// For each code length: the first code past it, left-aligned to 16 bits, and what to add to find the symbol.
    ends: [(u32, i32); 17],
    symbols: Vec<u8>,
}

fn read_tables(mut body: &[u8], tables: &mut [[Option<Table>; 4]; 2]) {
    while let Some((&[kind, ref counts @ ..], rest)) = body.split_first_chunk::<17>() {
        let total: usize = counts.iter().map(|&n| usize::from(n)).sum();
        let Some(symbols) = rest.get(..total) else { return };
        if let Some(slot) =
            tables.get_mut(usize::from(kind >> 4)).and_then(|t| t.get_mut(usize::from(kind & 15)))
        {
            *slot = Table::new(counts, symbols);
        }
        body = &rest[total..];
    }
}

impl Table {
    /// `None` if the counts overflow their code lengths.
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Table> {
        let mut table =
            Table { short: [(0, 0); 1 << LOOKAHEAD], ends: [(0, 0); 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.ends[length as usize].1 = index as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOKAHEAD {
                    let from = (code << (LOOKAHEAD - length)) as usize;
                    let to = ((code + 1) << (LOOKAHEAD - length)) as usize;
                    table.short.get_mut(from..to)?.fill((length as u8, symbols[index]));
                }
                code += 1;
                index += 1;
            }
            if code > 1 << length {
                return None;
            }
            table.ends[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Length and symbol of the code that opens these 16 bits; `None` if none does.
    #[inline(always)]
    fn look_up(&self, bits: u32) -> Option<(u32, u8)> {
        let (length, symbol) = self.short[(bits >> (16 - LOOKAHEAD)) as usize];
        if length != 0 {
            return Some((u32::from(length), symbol));
        }
        let length = (LOOKAHEAD + 1..=16).find(|&length| bits < self.ends[length as usize].0)?;
        let index = (bits >> (16 - length)) as i32 + self.ends[length as usize].1;
        self.symbols.get(index as usize).map(|&symbol| (length, symbol))
    }
}

/// The blocks of one unit of a scan: how many, and by which tables.
struct Scan<'a> {
    parts: Vec<(usize, &'a Table, &'a Table)>,
    units: usize,
}

impl<'a> Scan<'a> {
    fn read(body: &[u8], frame: &Frame, tables: &'a [[Option<Table>; 4]; 2]) -> Option<Scan<'a>> {
        let count = usize::from(*body.first()?);
        let max = |side: fn((usize, usize)) -> usize| frame.components.iter().map(|c| side(c.sampling)).max();
        let (across, down) = (max(|s| s.0)?, max(|s| s.1)?);
        let (width, height) = (frame.width as usize, frame.height as usize);
        let mut units = width.div_ceil(8 * across) * height.div_ceil(8 * down);
        let mut parts = Vec::new();
        for part in body.get(1..1 + 2 * count)?.chunks_exact(2) {
            let component = frame.components.iter().find(|c| c.id == part[0])?;
            let (h, v) = component.sampling;
            let table = |class: usize, index: u8| tables[class].get(usize::from(index))?.as_ref();
            let mut blocks = h * v;
            if count == 1 {
                // Alone in its scan, a component is coded block by block, without the padding to whole units.
                let side = |length: usize, own: usize, most: usize| (length * own).div_ceil(most).div_ceil(8);
                units = side(width, h, across) * side(height, v, down);
                blocks = 1;
            }
            parts.push((blocks, table(0, part[1] >> 4)?, table(1, part[1] & 15)?));
        }
        Some(Scan { parts, units })
    }

    fn check(&self, data: &[u8], restart_interval: usize) -> Result<(), Unreadable> {
        let mut bits = Bits { data, at: 0, buffer: 0, held: 0, invented: 0 };
        for unit in 0..self.units {
            if restart_interval != 0 && unit != 0 && unit % restart_interval == 0 {
                bits.pass_restart();
            }
            for &(blocks, dc, ac) in &self.parts {
                for _ in 0..blocks {
                    let sound = bits.pass_block(dc, ac).is_some();
                    if bits.invented > bits.held {
                        let detail = format!("the picture data ends after {unit} of {} units", self.units);
                        return Err(Unreadable::truncated(Kind::Jpeg, detail));
                    }
                    if !sound {
                        return Err(Unreadable::corrupt(
                            Kind::Jpeg,
                            format_args!("no such code in unit {unit}"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The coded data as bits, stuffing removed, zeros from the next marker on.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    buffer: u64,
    held: u32,
    /// How many of the bits in the buffer stand behind the last real one.
    invented: u32,
}

impl Bits<'_> {
    /// Tops the buffer up to at least 32 bits: a code has 16 at most, and up to 15 more follow it.
    #[inline(always)]
    fn fill(&mut self) {
        if self.held >= 32 {
            return;
        }
        if let Some(&[a, b, c, d]) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && a != 0xff
            && b != 0xff
            && c != 0xff
            && d != 0xff
        {
            self.buffer |= u64::from(u32::from_be_bytes([a, b, c, d])) << (32 - self.held);
            self.held += 32;
            self.at += 4;
            return;
        }
        while self.held <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.invented += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.held);
            self.held += 8;
        }
    }

    #[inline(always)]
    fn drop(&mut self, count: u32) {
        self.buffer <<= count;
        self.held -= count;
    }

    /// Passes over one block. `None` if no code matches.
    #[inline(always)]
    fn pass_block(&mut self, dc: &Table, ac: &Table) -> Option<()> {
        self.fill();
        let (length, size) = dc.look_up((self.buffer >> 48) as u32)?;
        self.drop(length + u32::from(size & 15));
        let mut position = 1;
        while position < 64 {
            self.fill();
            let (length, symbol) = ac.look_up((self.buffer >> 48) as u32)?;
            let (run, size) = (symbol >> 4, symbol & 15);
            self.drop(length + u32::from(size));
            if size == 0 && run != 15 {
                break;
            }
            position += usize::from(run) + 1;
        }
        Some(())
    }

    /// Goes on behind the next restart marker, if the next marker is one.
    fn pass_restart(&mut self) {
        while let Some(offset) =
            self.data.get(self.at..).and_then(|rest| rest.iter().position(|&b| b == 0xff))
        {
            let after = self.at + offset + 1;
            match self.data.get(after) {
                Some(0xD0..=0xD7) => {
                    (self.at, self.buffer, self.held, self.invented) = (after + 1, 0, 0, 0);
                    return;
                }
                Some(0) => self.at = after + 1,
                Some(0xff) => self.at = after,
                _ => return,
            }
        }
    }
}
