//! The nearest known word to one that is not known, to suggest it.
#![forbid(unsafe_code)]

use std::mem;

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| is_near(word, candidate, *distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, left out, changed or swapped with the next to get from `a` to `b`.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // Row i holds the distances of the first i letters of `a` to each beginning of `b`; only the last three are needed.
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX).saturating_add(1);
            let mut least = at(&last, j.saturating_add(1)).min(at(&row, j));
            least = least.min(if x == y { at(&last, j).saturating_sub(1) } else { at(&last, j) });
            let swapped = j.checked_sub(1).and_then(|k| b.get(k)) == Some(&x) && previous == Some(y);
            if swapped {
                least = least.min(at(&before, j.saturating_sub(1)));
            }
            row.push(least);
        }
        before = mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

/// A third of the letters may be wrong, or the end may be missing.
fn is_near(word: &str, candidate: &str, distance: usize) -> bool {
    let letters = candidate.chars().count();
    distance <= (letters / 3).max(1) || (word.len() > 2 && candidate.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_letters_put_in_left_out_changed_and_swapped() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("addr", "addr"), 0);
        assert_eq!(distance("adr", "addr"), 1);
        assert_eq!(distance("addrr", "addr"), 1);
        assert_eq!(distance("axdr", "addr"), 1);
        assert_eq!(distance("deamon", "daemon"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("é", "e"), 1);
    }

    #[test]
    fn finds_what_was_meant() {
        let words = ["max-connections", "max-request-size", "addr", "lib-path"];
        assert_eq!(nearest("max-conections", words), Some("max-connections"));
        assert_eq!(nearest("adress", words), None);
        assert_eq!(nearest("libpath", words), Some("lib-path"));
        assert_eq!(nearest("lib", words), Some("lib-path"));
        assert_eq!(nearest("nothing-like-it", words), None);
        assert_eq!(nearest("", words), None);
    }
}
