//! What a translation makes of each thing it is told.

use kymo_core::batch::{FamilyType, Metadata, PushSeries};
use kymo_core::histogram::stale_nan;
use prost::Message;

use super::{
    Attributes, Buffers, Key, Learn, MAIN, MAIN_PREFIX, METRIC, Mode, NO_POINT, RESOURCE, SCOPE, TARGET,
    TARGET_INFO_STEP_MS, Times, Translation, Which,
};
use crate::otlp::error::{ExportError, Reason};
use crate::otlp::known::Facts;
use crate::otlp::memory::Layout;
use crate::otlp::message::{NO_RECORDED_VALUE, Resource, Scope};
use crate::otlp::name::{NameKind, Unnameable, metric_name, unit_name};
use crate::otlp::visit::{
    Data, EXPONENTIAL_ATTRIBUTES, EXPONENTIAL_EXEMPLARS, ExponentialPoint, HISTOGRAM_ATTRIBUTES, HISTOGRAM_EXEMPLARS,
    HistogramPoint, Metric, NUMBER_ATTRIBUTES, NUMBER_EXEMPLARS, NumberPoint, SUMMARY_ATTRIBUTES, SummaryPoint, Visit,
};
use crate::otlp::{exemplar, histogram, writer};
use crate::series_cache::Session;

impl Visit for Translation<'_> {
    fn resource(&mut self, resource: &[u8]) -> Result<(), ExportError> {
        let Buffers { key, times, resource: bytes, .. } = &mut self.buffers;
        times.clear();
        self.meter.take(2 * resource.len())?;
        bytes.clear();
        bytes.extend_from_slice(resource);
        (self.is_resource_read, self.is_scope_read) = (false, false);
        key.clear();
        key.push(RESOURCE);
        key.extend_from_slice(resource);
        self.resource = match self.known.get(key) {
            Some(facts) => facts,
            None => {
                let weight = self.meter.lend(Layout::Attributes.weigh(resource)?)?;
                let decoded = Resource::decode(resource)?;
                self.labels.set_resource(&decoded);
                let has_target = self.labels.target_info(&decoded).is_some();
                drop(decoded);
                self.meter.take_back(weight);
                self.is_resource_read = true;
                let stream = writer::of_resource(resource)?;
                let has_instance = self.labels.has_instance();
                let facts = Facts { number: self.known.number(), stream, has_instance, has_target };
                self.known.put(&self.buffers.key, facts);
                facts
            }
        };
        self.stream.set_resource(self.resource.stream);
        Ok(())
    }

    fn scope(&mut self, scope: &[u8], schema_url: &str) -> Result<(), ExportError> {
        let Buffers { key, scope: bytes, schema_url: kept, .. } = &mut self.buffers;
        self.meter.take(2 * (scope.len() + schema_url.len()))?;
        bytes.clear();
        bytes.extend_from_slice(scope);
        kept.clear();
        kept.push_str(schema_url);
        self.is_scope_read = false;
        key.clear();
        key.push(SCOPE);
        key.extend_from_slice(&self.resource.number.to_le_bytes());
        key.extend_from_slice(&scope.len().to_le_bytes());
        key.extend_from_slice(scope);
        key.extend_from_slice(schema_url.as_bytes());
        self.scope = match self.known.get(key) {
            Some(facts) => facts,
            None => {
                let weight = self.meter.lend(Layout::Scope.weigh(scope)?)?;
                drop(Scope::decode(scope)?);
                self.meter.take_back(weight);
                let stream = writer::of_scope(scope, schema_url)?;
                let facts = Facts { number: self.known.number(), stream, ..Facts::default() };
                self.known.put(key, facts);
                facts
            }
        };
        self.stream.set_scope(self.scope.stream);
        Ok(())
    }

    fn metric(&mut self, metric: &Metric<'_>) -> Result<(), ExportError> {
        let Metric { name, description, unit, data } = *metric;
        self.meter.take(2 * (name.len() + unit.len() + description.len()) + size_of::<(u32, usize)>())?;
        let Buffers { key, names, metrics, .. } = &mut self.buffers;
        names.push_str(name);
        metrics.push((self.points, names.len()));
        if data == Data::Unknown {
            self.outcome.refuse(Reason::UnknownData, 0, name);
        }
        key.clear();
        let kind = match data {
            Data::Gauge => NameKind::Gauge,
            Data::Sum { is_monotonic: true, .. } => NameKind::Counter,
            _ => NameKind::Other,
        };
        let data_kind = match data {
            Data::Gauge => 0,
            Data::Sum { is_monotonic, .. } => 1 + u8::from(is_monotonic),
            Data::Histogram { .. } => 3,
            Data::Exponential { .. } => 4,
            Data::Summary => 5,
            Data::Unknown => 6,
        };
        key.extend_from_slice(&[METRIC, data_kind]);
        key.extend_from_slice(&self.scope.number.to_le_bytes());
        for text in [name, unit] {
            key.extend_from_slice(&text.len().to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        }
        key.extend_from_slice(description.as_bytes());
        let facts = self.known.get(key);
        let mode = self.mode(data);
        let current = &mut self.metric;
        current.is_known = facts.is_some();
        current.key.clear();
        if facts.is_none() {
            current.key.extend_from_slice(&self.buffers.key);
        }
        current.kind = kind;
        current.facts = facts.unwrap_or_else(|| Facts { number: self.known.number(), ..Facts::default() });
        current.data = data;
        current.first_point = self.points;
        current.unit.clear();
        current.unit.push_str(unit);
        current.description.clear();
        current.description.push_str(description);
        (current.mode, current.refusal) = match mode {
            Ok(mode) => (mode, None),
            Err(reason) => (Mode::Sample, Some(reason)),
        };
        self.buffers.family.clear();
        if !current.is_known {
            match metric_name(name, unit, kind, self.config.translation_strategy) {
                Ok(family) => self.buffers.family = family,
                Err(Unnameable) => current.refusal = Some(Reason::InvalidName),
            }
        }
        if current.mode != Mode::Sample {
            self.stream.set_metric(name, unit);
        }
        Ok(())
    }

    #[inline]
    fn expected(&self) -> &[u8] {
        let predicted = self.session.as_ref().filter(|_| self.metric.is_known).and_then(Session::predicted);
        let Some((slot, key)) = predicted else { return &[] };
        let number = self.metric.facts.number.to_le_bytes();
        match key.split_at_checked(MAIN_PREFIX) {
            Some((prefix, attributes)) if prefix[0] == MAIN && prefix[1..] == number => {
                self.expected.set(slot);
                attributes
            }
            _ => &[],
        }
    }

    #[inline]
    fn number(&mut self, point: &NumberPoint<'_>) -> Result<(), ExportError> {
        if self.known_sample(point)? {
            return Ok(());
        }
        self.point(|this| {
            let times = Times::of(point.start_ns, point.time_ns)?;
            let value = match point.value {
                _ if point.flags & NO_RECORDED_VALUE != 0 => stale_nan(),
                Some(value) => value,
                None => return Err(Reason::MissingValue.into()),
            };
            this.addable(&times, Some(value))?;
            let attributes = Attributes { fields: point.attributes, number: NUMBER_ATTRIBUTES };
            let (series, _) = this.first("", attributes, point.is_expected)?;
            this.counted(series, times, value)?;
            if !point.exemplars.is_empty() {
                this.exemplars((point.exemplars, NUMBER_EXEMPLARS), times, |_, _| Some(series))?;
            }
            Ok(times.time_ms)
        })
    }

    fn histogram(&mut self, point: &HistogramPoint<'_>) -> Result<(), ExportError> {
        self.point(|this| {
            let times = Times::of(point.start_ns, point.time_ns)?;
            histogram::check_bounds(point)?;
            let stale = point.flags & NO_RECORDED_VALUE != 0;
            this.addable(&times, point.sum.filter(|_| !stale))?;
            let min_max = [point.min, point.max].map(|value| value.filter(|_| !stale));
            let attributes = Attributes { fields: point.attributes, number: HISTOGRAM_ATTRIBUTES };
            if this.config.convert_histograms_to_nhcb {
                let (series, first) = this.first("", attributes, false)?;
                this.native(series, times, histogram::custom_buckets(point))?;
                this.min_max(first, attributes, min_max, times)?;
                this.exemplars((point.exemplars, HISTOGRAM_EXEMPLARS), times, |_, _| Some(series))?;
                return Ok(times.time_ms);
            }
            let or_stale = |value: f64| if stale { stale_nan() } else { value };
            let (series, first) = this.first("_count", attributes, false)?;
            this.counted(series, times, or_stale(point.count as f64))?;
            if stale || point.sum.is_some() {
                let series = this.other(first, (Which::Sum, 0), ("_sum", None), attributes)?;
                this.counted(series, times, or_stale(point.sum.unwrap_or(0.0)))?;
            }
            // Before the buckets: labels of a point keep the bound that was set last.
            this.min_max(first, attributes, min_max, times)?;
            this.buffers.buckets.clear();
            for (bound, count) in histogram::cumulative(point) {
                let which = (Which::Bucket, bound.to_bits());
                let series = this.other(first, which, ("_bucket", Some("le")), attributes)?;
                this.counted(series, times, or_stale(count))?;
                if !point.exemplars.is_empty() {
                    this.buffers.buckets.push((bound, series));
                }
            }
            this.exemplars((point.exemplars, HISTOGRAM_EXEMPLARS), times, |buffers, sent| {
                // Without a value, or with NaN, it is in no bucket.
                let value = exemplar::value(sent)?;
                buffers.buckets.iter().find(|(bound, _)| value <= *bound).map(|(_, series)| *series)
            })?;
            Ok(times.time_ms)
        })
    }

    fn exponential(&mut self, point: &ExponentialPoint<'_>) -> Result<(), ExportError> {
        self.point(|this| {
            let times = Times::of(point.start_ns, point.time_ns)?;
            let native = histogram::native(point)?;
            this.addable(&times, None)?;
            let stale = point.flags & NO_RECORDED_VALUE != 0;
            let attributes = Attributes { fields: point.attributes, number: EXPONENTIAL_ATTRIBUTES };
            let (series, first) = this.first("", attributes, false)?;
            this.native(series, times, native)?;
            let min_max = [point.min, point.max].map(|value| value.filter(|_| !stale));
            this.min_max(first, attributes, min_max, times)?;
            this.exemplars((point.exemplars, EXPONENTIAL_EXEMPLARS), times, |_, _| Some(series))?;
            Ok(times.time_ms)
        })
    }

    fn summary(&mut self, point: &SummaryPoint<'_>) -> Result<(), ExportError> {
        self.point(|this| {
            let times = Times::of(point.start_ns, point.time_ns)?;
            let or_stale = |value| if point.flags & NO_RECORDED_VALUE != 0 { stale_nan() } else { value };
            let attributes = Attributes { fields: point.attributes, number: SUMMARY_ATTRIBUTES };
            let (series, first) = this.first("_count", attributes, false)?;
            this.float(series, times, or_stale(point.count as f64))?;
            let series = this.other(first, (Which::Sum, 0), ("_sum", None), attributes)?;
            this.float(series, times, or_stale(point.sum))?;
            for &(quantile, value) in point.quantiles {
                let which = (Which::Quantile, quantile.to_bits());
                let series = this.other(first, which, ("", Some("quantile")), attributes)?;
                this.float(series, times, or_stale(value))?;
            }
            Ok(times.time_ms)
        })
    }

    fn end_metric(&mut self) -> Result<(), ExportError> {
        if self.metric.is_known || self.metric.refusal.is_some() || self.points == self.metric.first_point {
            return Ok(());
        }
        let family_type = match self.metric.data {
            Data::Sum { is_monotonic: true, .. } => FamilyType::Counter,
            Data::Gauge | Data::Sum { .. } => FamilyType::Gauge,
            Data::Histogram { .. } | Data::Exponential { .. } => FamilyType::Histogram,
            Data::Summary => FamilyType::Summary,
            Data::Unknown => return Ok(()),
        };
        let unit = unit_name(&self.metric.unit, self.config.translation_strategy);
        let help = self.metric.description.clone();
        self.add_metadata(self.buffers.family.clone(), Metadata { family_type, unit, help })?;
        if self.wanted.is_none() {
            let key: Box<[u8]> = self.metric.key.as_slice().into();
            self.meter.take(2 * (key.len() + size_of::<(Box<[u8]>, Facts)>()))?;
            self.new_metrics.push((key, self.metric.facts));
        }
        Ok(())
    }

    fn refuse(&mut self, reason: Reason, points: u64, metric: &str) {
        self.outcome.refuse(reason, points, metric);
    }

    fn end_resource(&mut self) -> Result<(), ExportError> {
        if self.buffers.times.is_empty() {
            return Ok(());
        }
        let Some(series) = self.target_info()? else { return Ok(()) };
        let mut times = std::mem::take(&mut self.buffers.times);
        times.sort_unstable();
        times.dedup();
        let mut last: Option<i64> = None;
        let mut is_learned = matches!(series, PushSeries::Ref(_));
        for (at, &time_ms) in times.iter().enumerate() {
            let next = times.get(at + 1);
            if let (Some(last), Some(next)) = (last, next)
                && next - last <= TARGET_INFO_STEP_MS
            {
                continue;
            }
            last = Some(time_ms);
            // One target may stand in a request several times.
            if self.buffers.target_infos.insert((self.resource.stream, time_ms)) {
                if !is_learned && self.is_wanted() {
                    is_learned = true;
                    let Buffers { keys, learn, batch, .. } = &mut self.buffers;
                    let start = keys.len();
                    keys.push(TARGET);
                    keys.extend_from_slice(&self.resource.number.to_le_bytes());
                    learn.push(Learn { row: batch.len(), key: Key::Bytes { start, end: keys.len() } });
                }
                self.row(NO_POINT, |batch| batch.push_float(series, time_ms, 1.0))?;
            }
        }
        self.buffers.times = times;
        Ok(())
    }
}
