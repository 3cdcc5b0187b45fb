//! The summary of many measurements of one thing.

/// Median, least and most of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub runs: usize,
}

impl Spread {
    /// # Panics
    /// Without a sample: nothing was measured then.
    pub fn of(samples: &[f64]) -> Spread {
        assert!(!samples.is_empty(), "nothing was measured");
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Spread {
            median,
            least: sorted[0],
            most: sorted[sorted.len() - 1],
            runs: sorted.len(),
        }
    }
}
