//! Times that operations took, and what they come to.

use std::time::{Duration, Instant};

/// What came of one kind of operation, done over and over for a while.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    pub elapsed: Duration,
    /// Of each operation, in nanoseconds.
    pub times: Vec<u32>,
    pub errors: usize,
}

impl Slice {
    /// Does `work`, which says whether it succeeded, for so long.
    pub fn repeat(duration: Duration, mut work: impl FnMut() -> bool) -> Slice {
        let mut slice = Slice { times: Vec::with_capacity(1 << 16), ..Slice::default() };
        let begun = Instant::now();
        let mut last = begun;
        while slice.elapsed < duration {
            let sound = work();
            let now = Instant::now();
            slice.times.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
            slice.errors += usize::from(!sound);
            slice.elapsed = now - begun;
            last = now;
        }
        slice
    }

    /// What several threads did at the same time.
    pub fn side_by_side(slices: Vec<Slice>) -> Slice {
        let mut all = Slice::default();
        for slice in slices {
            all.elapsed = all.elapsed.max(slice.elapsed);
            all.errors += slice.errors;
            all.times.extend(slice.times);
        }
        all
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time in microseconds that so many of a hundred operations did not exceed.
    pub fn percentile(&self, percent: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = ((times.len().max(1) - 1) as f64 * percent / 100.0).round();
        times.get(at as usize).map_or(f64::NAN, |time| f64::from(*time) / 1000.0)
    }
}

/// The same thing done again and again, between other things, so that what drifts meets all alike.
#[derive(Clone, Debug, Default)]
pub struct Slices(pub Vec<Slice>);

impl Slices {
    /// All of them as one: for what is rare.
    pub fn together(&self) -> Slice {
        let mut all = Slice::side_by_side(self.0.clone());
        all.elapsed = self.0.iter().map(|slice| slice.elapsed).sum();
        all
    }

    pub fn rate(&self) -> f64 {
        median(self.0.iter().map(Slice::rate))
    }

    pub fn p50(&self) -> f64 {
        median(self.0.iter().map(|slice| slice.percentile(50.0)))
    }

    pub fn operations(&self) -> usize {
        self.0.iter().map(|slice| slice.times.len()).sum()
    }

    /// The median of what `compare` makes of this and another in the same round.
    pub fn against(&self, other: &Slices, compare: impl Fn(&Slice, &Slice) -> f64) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(ours, theirs)| compare(ours, theirs)))
    }
}

/// The middle of them; not a number of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(millis: u64, times: &[u32]) -> Slice {
        Slice { elapsed: Duration::from_millis(millis), times: times.to_vec(), errors: 0 }
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert!(median([]).is_nan());
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0])), (2.0, 2.5));
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let slice = slice(1, &[4000, 1000, 3000, 2000, 5000]);
        assert_eq!([0.0, 50.0, 100.0].map(|percent| slice.percentile(percent)), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn threads_share_the_time_and_rounds_do_not() {
        let pair = vec![slice(100, &[1; 10]), slice(100, &[1; 10])];
        assert_eq!(Slice::side_by_side(pair.clone()).rate(), 200.0);
        assert_eq!(Slices(pair).together().rate(), 100.0);
    }
}
