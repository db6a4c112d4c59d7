//! One sample, owned: what the head keeps and compares.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{STALE_NAN_BITS, is_stale_nan, stale_nan};
use kymo_core::storage::{ColumnValue, Columns};

/// A sample of one series.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) time_ms: i64,
    /// 0 = unset.
    pub(crate) start_ms: i64,
    /// The stale NaN is a staleness marker; meaningless beside a histogram.
    value: f64,
    histogram: Option<Arc<NativeHistogram>>,
}

impl Sample {
    pub(crate) fn float(time_ms: i64, start_ms: i64, value: f64) -> Sample {
        Sample { time_ms, start_ms, value, histogram: None }
    }

    pub(crate) fn stale(time_ms: i64, start_ms: i64) -> Sample {
        Sample::float(time_ms, start_ms, stale_nan())
    }

    pub(crate) fn histogram(time_ms: i64, start_ms: i64, histogram: Arc<NativeHistogram>) -> Sample {
        Sample { time_ms, start_ms, value: 0.0, histogram: Some(histogram) }
    }

    /// Whether a retry would send these very bits.
    pub(crate) fn is_identical(&self, other: &Sample) -> bool {
        let values = match (&self.histogram, &other.histogram) {
            (None, None) => self.value.to_bits() == other.value.to_bits(),
            (Some(a), Some(b)) => a.same_bits(b),
            _ => false,
        };
        values && self.time_ms == other.time_ms && self.start_ms == other.start_ms
    }
}

/// A short run in memory that still takes samples: times rising, kept as columns.
#[derive(Debug, Default)]
pub(crate) struct OpenRun {
    times: Vec<i64>,
    /// Float bits; of a histogram its index in `rare.histograms`.
    bits: Vec<u64>,
    /// Present once the run holds anything but floats and markers without start timestamps.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// As long as the run.
    starts: Vec<i64>,
    /// Sorted positions that are histograms.
    at: Vec<u32>,
    histograms: Vec<Arc<NativeHistogram>>,
}

impl OpenRun {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(crate) fn first(&self) -> Option<i64> {
        self.times.first().copied()
    }

    pub(crate) fn last(&self) -> Option<i64> {
        self.times.last().copied()
    }

    /// Forgets the samples and keeps the buffers.
    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.bits.clear();
        self.rare = None;
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| {
            let histograms: usize = rare.histograms.iter().map(|h| h.bytes() + 16).sum();
            rare.starts.capacity() * 8 + rare.at.capacity() * 4 + rare.histograms.capacity() * 8 + histograms
        });
        (self.times.capacity() + self.bits.capacity()) * 8 + rare
    }

    /// The sample at exactly `time_ms`.
    pub(crate) fn get(&self, time_ms: i64) -> Option<Sample> {
        self.times.binary_search(&time_ms).ok().map(|n| self.sample(n))
    }

    fn sample(&self, n: usize) -> Sample {
        let (start_ms, histogram) = match &self.rare {
            None => (0, None),
            Some(rare) => {
                let at = rare.at.binary_search(&(n as u32)).ok();
                (rare.starts[n], at.map(|at| Arc::clone(&rare.histograms[at])))
            }
        };
        Sample { time_ms: self.times[n], start_ms, value: f64::from_bits(self.bits[n]), histogram }
    }

    /// Puts a sample where it belongs, replacing one at its time.
    pub(crate) fn put(&mut self, sample: Sample) {
        // By far the most: a float behind all others.
        let is_plain = self.rare.is_none() && sample.start_ms == 0 && sample.histogram.is_none();
        if is_plain && self.times.last().is_none_or(|last| *last < sample.time_ms) {
            self.times.push(sample.time_ms);
            self.bits.push(sample.value.to_bits());
            return;
        }
        let n = match self.times.last() {
            Some(&last) if last >= sample.time_ms => match self.times.binary_search(&sample.time_ms) {
                Ok(n) => {
                    self.remove(n);
                    n
                }
                Err(n) => n,
            },
            _ => self.times.len(),
        };
        if self.rare.is_none() && (sample.start_ms != 0 || sample.histogram.is_some()) {
            self.rare = Some(Box::new(Rare { starts: vec![0; self.times.len()], ..Rare::default() }));
        }
        if let Some(rare) = &mut self.rare {
            rare.starts.insert(n, sample.start_ms);
            let at = rare.at.partition_point(|p| (*p as usize) < n);
            rare.at[at..].iter_mut().for_each(|p| *p += 1);
            if let Some(histogram) = sample.histogram {
                rare.at.insert(at, n as u32);
                rare.histograms.insert(at, histogram);
            }
        }
        self.times.insert(n, sample.time_ms);
        self.bits.insert(n, sample.value.to_bits());
    }

    fn remove(&mut self, n: usize) {
        self.times.remove(n);
        self.bits.remove(n);
        if let Some(rare) = &mut self.rare {
            rare.starts.remove(n);
            let mut at = rare.at.partition_point(|p| (*p as usize) < n);
            if rare.at.get(at) == Some(&(n as u32)) {
                rare.at.remove(at);
                rare.histograms.remove(at);
            }
            while let Some(p) = rare.at.get_mut(at) {
                *p -= 1;
                at += 1;
            }
        }
    }

    /// Appends the samples with `start < time <= end` to `columns`.
    pub(crate) fn read(&self, start_ms: i64, end_ms: i64, columns: &mut Columns) {
        let low = self.times.partition_point(|t| *t <= start_ms);
        let high = self.times.partition_point(|t| *t <= end_ms);
        for n in low..high {
            let sample = self.sample(n);
            let value = match &sample.histogram {
                Some(h) => ColumnValue::Histogram(h),
                None if is_stale_nan(sample.value) => ColumnValue::Stale,
                None => ColumnValue::Float(sample.value),
            };
            columns.push(sample.time_ms, sample.start_ms, value);
        }
    }

    /// The part inside a window, for a snapshot.
    pub(crate) fn cut(&self, start_ms: i64, end_ms: i64) -> OpenRun {
        let low = self.times.partition_point(|t| *t <= start_ms);
        let high = self.times.partition_point(|t| *t <= end_ms);
        if self.rare.is_none() {
            return OpenRun { times: self.times[low..high].to_vec(), bits: self.bits[low..high].to_vec(), rare: None };
        }
        let mut cut = OpenRun::default();
        (low..high).for_each(|n| cut.put(self.sample(n)));
        cut
    }
}

const _: () = assert!(STALE_NAN_BITS == 0x7ff0_0000_0000_0002);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn an_open_run_is_a_sorted_map(ops in proptest::collection::vec((0..30i64, 0..3i64, any::<u64>(), any::<bool>()), 0..80)) {
            let mut run = OpenRun::default();
            let mut model: BTreeMap<i64, Sample> = BTreeMap::new();
            for (time, start, bits, is_histogram) in ops {
                let sample = if is_histogram {
                    let h = NativeHistogram {
                        schema: 0,
                        hint: Default::default(),
                        zero_threshold: 0.0,
                        counts: kymo_core::histogram::HistogramCounts::Float(Default::default()),
                        sum: bits as f64,
                        positive_spans: vec![],
                        negative_spans: vec![],
                        custom_values: Arc::from([]),
                    };
                    Sample::histogram(time, start, h.into())
                } else {
                    Sample::float(time, start, f64::from_bits(bits))
                };
                run.put(sample.clone());
                model.insert(time, sample);
            }
            prop_assert_eq!(run.len(), model.len());
            for (time, sample) in &model {
                prop_assert!(run.get(*time).unwrap().is_identical(sample));
            }
            let cut = run.cut(4, 20);
            let wanted: Vec<i64> = model.keys().copied().filter(|t| *t > 4 && *t <= 20).collect();
            prop_assert_eq!(&cut.times, &wanted);
            for time in wanted {
                prop_assert!(cut.get(time).unwrap().is_identical(&model[&time]));
            }
        }
    }
}
