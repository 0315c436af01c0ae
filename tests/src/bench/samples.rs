//! Numbers that were measured, and what is said of them.

/// Measurements of one thing, in one unit.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one in the middle; of an even number the mean of the two in the middle. Not a number when there is none.
    pub fn median(&self) -> f64 {
        f64::midpoint(
            self.at(self.0.len().saturating_sub(1) / 2),
            self.at(self.0.len() / 2),
        )
    }

    /// The first and the third quartile: half of all measurements lie between them.
    pub fn quartiles(&self) -> (f64, f64) {
        let last = self.0.len().saturating_sub(1);
        (self.at(last / 4), self.at(last - last / 4))
    }

    fn at(&self, index: usize) -> f64 {
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn outliers_do_not_move_the_median() {
        assert!((of(&[3.0, 1.0, 900.0, 2.0, 4.0]).median() - 3.0).abs() < 1e-9);
        assert!((of(&[1.0, 2.0, 3.0, 4.0]).median() - 2.5).abs() < 1e-9);
        assert!((of(&[7.0]).median() - 7.0).abs() < 1e-9);
        assert!(of(&[]).median().is_nan());
    }

    #[test]
    fn half_of_all_lie_between_the_quartiles() {
        let (low, high) = of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 90.0]).quartiles();
        assert!((low - 3.0).abs() < 1e-9 && (high - 7.0).abs() < 1e-9);
    }
}
