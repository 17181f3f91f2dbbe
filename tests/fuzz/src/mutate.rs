//! Mutations of messages: what a careless or hostile client may send, from a flipped bit to an item in the wrong place.
//! The same numbers make the same mutations.
#![forbid(unsafe_code)]

use cascade_hsm_bridge::kmip::tag;

/// A generator of numbers that need not be good, only always the same (xorshift64*).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() >> 32) as usize % end
    }

    fn choose<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        if among.is_empty() { None } else { Some(&among[self.below(among.len())]) }
    }
}

/// Where an item is in a message: from its tag to the end of its padding.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    parent: Option<usize>,
}

const HEADER: usize = 8;
const STRUCTURE: u8 = 1;

/// The items of a message, as far as its lengths make sense; parents before their children.
fn places(message: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    walk(message, 0, message.len(), None, &mut places);
    places
}

fn walk(message: &[u8], mut start: usize, end: usize, parent: Option<usize>, places: &mut Vec<Place>) {
    while let Some(header) = message.get(start..end).and_then(|rest| rest.first_chunk::<HEADER>()) {
        let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let item_end = start + HEADER + len.next_multiple_of(8);
        if item_end > end || places.len() > 1000 {
            return;
        }
        places.push(Place { start, end: item_end, parent });
        if header[3] == STRUCTURE {
            walk(message, start + HEADER, item_end, Some(places.len() - 1), places);
        }
        start = item_end;
    }
}

/// Changes `message` in a few places; `others` are messages from which parts are taken.
pub fn mutate(message: &mut Vec<u8>, others: &[Vec<u8>], numbers: &mut Numbers) {
    // One change gets furthest into the program; several find what one hides.
    for _ in 0..=numbers.below(8).saturating_sub(4) {
        change(message, others, numbers);
    }
}

fn change(message: &mut Vec<u8>, others: &[Vec<u8>], numbers: &mut Numbers) {
    let places = places(message);
    let Some(place) = numbers.choose(&places).copied() else {
        message.push(numbers.draw() as u8);
        return;
    };
    match numbers.below(13) {
        0 => {
            let bit = numbers.below(message.len() * 8);
            message[bit / 8] ^= 1 << (bit % 8);
        }
        1 => {
            let at = numbers.below(message.len());
            message[at] = *numbers.choose(&[0, 1, 0x7f, 0x80, 0xff, b'A', 0x42]).unwrap_or(&0);
        }
        2 => message.truncate(numbers.below(message.len())),
        3 => {
            // Whole items are cut off, and the length of the message agrees.
            message.truncate(place.start);
            mend(message);
        }
        4 => length(message, place, numbers),
        5 => message[place.start + 3] = numbers.below(12) as u8,
        6 => {
            let tag = numbers.choose(tag::NAMED).map_or(0, |(tag, _)| *tag).to_be_bytes();
            message[place.start..place.start + 3].copy_from_slice(&tag[1..]);
        }
        7 => value(message, place, numbers),
        8 => splice(message, &places, place.start..place.end, &[]),
        9 => {
            let copy = message[place.start..place.end].to_vec();
            splice(message, &places, place.end..place.end, &copy);
        }
        10 => {
            // A part of another message, in the place of one of this or before it.
            let Some(other) = numbers.choose(others) else { return };
            let theirs = self::places(other);
            let Some(part) = numbers.choose(&theirs) else { return };
            let end = if numbers.below(2) == 0 { place.start } else { place.end };
            splice(message, &places, place.start..end, &other[part.start..part.end]);
        }
        11 => {
            let resized = resized(&message[place.start..place.end], numbers);
            splice(message, &places, place.start..place.end, &resized);
        }
        _ => {
            // Two items change places.
            let Some(other) = numbers.choose(&places).copied() else { return };
            let (first, second) = if place.start < other.start { (place, other) } else { (other, place) };
            if first.end <= second.start && first.parent == second.parent {
                let moved = message[first.start..first.end].to_vec();
                splice(message, &places, second.end..second.end, &moved);
                message.drain(first.start..first.end);
                mend_parents(message, &places, first.parent, -(moved.len() as i64));
            }
        }
    }
}

/// Gives an item another length.
fn length(message: &mut [u8], place: Place, numbers: &mut Numbers) {
    let field = place.start + 4..place.start + HEADER;
    let old = u32::from_be_bytes([
        message[field.start],
        message[field.start + 1],
        message[field.start + 2],
        message[field.start + 3],
    ]);
    let new = match numbers.below(8) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_add(8),
        3 => old.wrapping_sub(8),
        4 => 0,
        5 => u32::MAX,
        6 => 0x8000_0000,
        _ => numbers.draw() as u32 & 0xffff,
    };
    message[field].copy_from_slice(&new.to_be_bytes());
}

/// The item with a value of another length, and padded as it should be.
fn resized(item: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const LENGTHS: [usize; 12] = [0, 0, 1, 4, 7, 8, 9, 20, 64, 65, 300, 5000];
    let len = numbers.choose(&LENGTHS).copied().unwrap_or(0);
    let old = item.get(HEADER..).filter(|value| !value.is_empty()).unwrap_or(b"a");
    let mut new = item[..4].to_vec();
    new.extend((len as u32).to_be_bytes());
    // Without the padding of old, which no text may hold.
    new.extend(old.iter().copied().filter(|byte| *byte != 0).chain(std::iter::once(b'a')).cycle().take(len));
    new.resize(HEADER + len.next_multiple_of(8), 0);
    new
}

/// Gives an item of a simple type another value of the same size.
fn value(message: &mut [u8], place: Place, numbers: &mut Numbers) {
    const ODD: [u64; 10] = [0, 1, 2, 3, 0x0100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX, 1 << 63];
    let bytes = &mut message[place.start + HEADER..place.end];
    let Some(eight) = bytes.first_chunk_mut::<8>() else { return };
    let number = numbers.choose(&ODD).copied().unwrap_or(0);
    if numbers.below(2) == 0 {
        *eight = number.to_be_bytes();
    } else {
        // An Integer or Enumeration: four bytes and their padding.
        eight[..4].copy_from_slice(&(number as u32).to_be_bytes());
    }
}

/// Puts `new` in the place of the bytes in `range`, and makes the lengths of the structures around it agree.
fn splice(message: &mut Vec<u8>, places: &[Place], range: std::ops::Range<usize>, new: &[u8]) {
    let grown = new.len() as i64 - range.len() as i64;
    let inside =
        |place: &&Place| place.start < range.start && range.end <= place.end && place.start + HEADER <= range.start;
    for place in places.iter().filter(inside) {
        if message[place.start + 3] == STRUCTURE {
            add_to_length(message, place.start, grown);
        }
    }
    message.splice(range, new.iter().copied());
}

fn mend_parents(message: &mut [u8], places: &[Place], mut parent: Option<usize>, grown: i64) {
    while let Some(place) = parent.map(|index| places[index]) {
        add_to_length(message, place.start, grown);
        parent = place.parent;
    }
}

fn add_to_length(message: &mut [u8], start: usize, grown: i64) {
    if let Some(field) = message.get_mut(start + 4..start + HEADER) {
        let old = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
        field.copy_from_slice(&((i64::from(old) + grown) as u32).to_be_bytes());
    }
}

/// Makes the length of the outermost structure that of the message.
pub fn mend(message: &mut [u8]) {
    if let Ok(len) = u32::try_from(message.len().saturating_sub(HEADER)) {
        if let Some(field) = message.get_mut(4..HEADER) {
            field.copy_from_slice(&len.to_be_bytes());
        }
    }
}
