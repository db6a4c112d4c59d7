//! Pages made again and again: what changes is written anew, the rest is copied.
//!
//! A registry shows its families and series in one order, so the texts of the page before are found by going along. A family
//! numbers its orders: while it is the one of the page before, nothing about a series is looked at but its value, which is
//! what keeps a page of ten thousand series out of their labels' memory. In a new order the series at hand is compared with
//! the one that stood here last time, bytes with bytes, and only where they differ is a text made. A page of the series of the page before allocates nothing, if the buffer it is written to is large enough.

use kymo_core::Exemplar;
use kymo_core::registry::{FamilySnapshot, FamilyView, Registry, Scratch, SeriesView, Visit};

use super::format::Format;
use super::protobuf::{self, FamilyBytes};
use super::shown::{Described, decide};
use super::texts::{FamilyText, label_text};
use super::value::{Told, Value, exemplars};

/// Attempts at a page of the families that were there when it was begun. Families are added while a program starts.
const ATTEMPTS: usize = 8;

/// The texts of one format.
#[derive(Debug)]
pub(super) struct Renderer {
    format: Format,
    shows_created: bool,
    /// Not here while a page is made.
    scratch: Option<Scratch>,
    told: Told,
    /// The text of a series that has none kept.
    labels: Vec<u8>,
    /// By name; those of the registry and of others.
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    described: Described,
    /// Whether the registry has it, not others.
    is_registrys: bool,
    form: Form,
    series: Texts,
    /// Of all of `series`, if they are of one: the registry's number.
    order: Option<u64>,
}

/// What is kept of a family itself.
#[derive(Debug)]
enum Form {
    Text(Box<FamilyText>),
    Protobuf(FamilyBytes),
}

impl Form {
    /// What all lines of a series have in common.
    fn write_labels<'a>(format: Format, out: &mut Vec<u8>, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
        match format {
            Format::Protobuf(escaping) => protobuf::write_labels(out, escaping, labels),
            _ => label_text(out, format.escaping(), labels),
        }
    }

    /// Begins a family of so many series. Gives the start of what must be ended, if anything must.
    fn begin(&self, out: &mut Vec<u8>, series: usize) -> Option<usize> {
        match self {
            Form::Text(text) => {
                out.extend_from_slice(text.comments());
                None
            }
            // A family without series is no message: a reader has no use for it, and Prometheus refuses it.
            Form::Protobuf(bytes) => (series > 0).then(|| bytes.begin(out)),
        }
    }

    fn end(&self, out: &mut Vec<u8>, start: usize) {
        match self {
            Form::Text(_) => {}
            Form::Protobuf(bytes) => bytes.end(out, start),
        }
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        labels: &[u8],
        value: Value<'_>,
        exemplars: &[Exemplar],
        created_ms: Option<i64>,
    ) {
        match self {
            Form::Text(text) => text.write(out, labels, value, exemplars, created_ms),
            Form::Protobuf(bytes) => bytes.write(out, labels, value, exemplars, created_ms),
        }
    }
}

/// Texts of the series of a family, in their order.
#[derive(Debug, Default)]
struct Texts {
    /// One after the other. Keys are apart from what is written, as they are looked at in a new order only.
    keys: Vec<u8>,
    texts: Vec<u8>,
    ends: Vec<Ends>,
}

/// Where key and text of a series end; those of the next begin there.
#[derive(Debug, Default, Clone, Copy)]
struct Ends {
    key: u32,
    text: u32,
}

impl Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where those of the series of this place begin.
    fn start(&self, at: usize) -> Ends {
        at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default()
    }

    fn key(&self, at: usize) -> Option<&[u8]> {
        Some(&self.keys[self.start(at).key as usize..self.ends.get(at)?.key as usize])
    }

    fn text(&self, at: usize) -> Option<&[u8]> {
        Some(&self.texts[self.start(at).text as usize..self.ends.get(at)?.text as usize])
    }

    /// Texts of a run of series, if all are kept.
    fn run(&self, at: usize, len: usize) -> Option<impl Iterator<Item = &[u8]>> {
        let ends = self.ends.get(at..at.checked_add(len)?)?;
        let mut start = self.start(at).text as usize;
        Some(ends.iter().map(move |ends| {
            let end = ends.text as usize;
            &self.texts[std::mem::replace(&mut start, end)..end]
        }))
    }

    /// Forgets everything from this series on: the order has changed.
    fn cut(&mut self, at: usize) {
        let Ends { key, text } = self.start(at);
        if at < self.len() {
            self.keys.truncate(key as usize);
            self.texts.truncate(text as usize);
            self.ends.truncate(at);
        }
    }

    fn push(&mut self, key: &[u8], write_text: impl FnOnce(&mut Vec<u8>)) {
        let Ends { key: old_key, text: old_text } = self.start(self.len());
        self.keys.extend_from_slice(key);
        write_text(&mut self.texts);
        match (u32::try_from(self.keys.len()), u32::try_from(self.texts.len())) {
            (Ok(key), Ok(text)) => self.ends.push(Ends { key, text }),
            // A registry of 4 GiB of labels is not one that anybody scrapes; texts beyond are not kept but made anew.
            _ => {
                self.keys.truncate(old_key as usize);
                self.texts.truncate(old_text as usize);
            }
        }
    }
}

impl Renderer {
    pub(super) fn new(format: Format, shows_created: bool) -> Renderer {
        Renderer {
            format,
            shows_created,
            scratch: None,
            told: Told::default(),
            labels: Vec::new(),
            families: Vec::new(),
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Appends a page. `others` are sorted by name and each there once; of two families of one name the registry's counts.
    pub(super) fn render(&mut self, out: &mut Vec<u8>, registry: &Registry, others: &[FamilySnapshot]) {
        let start = out.len();
        let mut scratch = self.scratch.take().unwrap_or_default();
        for _ in 0..ATTEMPTS {
            if self.knows(others) {
                let mut page = Page::begin(self, out, others);
                registry.visit(&mut scratch, &mut page);
                if page.end() {
                    break;
                }
                out.truncate(start);
            }
            self.describe(registry, &mut scratch, others);
        }
        self.scratch = Some(scratch);
        if self.format.is_open_metrics() {
            out.extend_from_slice(b"# EOF\n");
        }
    }

    /// Whether it has texts for all of these.
    fn knows(&self, others: &[FamilySnapshot]) -> bool {
        let is_known = |other: &FamilySnapshot| {
            let found = self.families.binary_search_by(|family| family.described.name.as_str().cmp(&other.name));
            found.is_ok_and(|at| self.families[at].is_registrys || self.families[at].is_of(other))
        };
        others.iter().all(is_known)
    }

    /// Looks which families there are, and decides anew how they are shown.
    fn describe(&mut self, registry: &Registry, scratch: &mut Scratch, others: &[FamilySnapshot]) {
        let mut found = Descriptions::default();
        registry.visit(scratch, &mut found);
        let mut all: Vec<(Described, bool)> = found.0.into_iter().map(|described| (described, true)).collect();
        for FamilySnapshot { name, kind, unit, help, .. } in others {
            if let Err(at) = all.binary_search_by(|(known, _)| known.name.cmp(name)) {
                let (name, unit, help) = (name.clone(), unit.clone(), help.clone());
                all.insert(at, (Described { name, kind: *kind, unit, help }, false));
            }
        }
        let (described, is_registrys): (Vec<Described>, Vec<bool>) = all.into_iter().unzip();
        let shown = decide(self.format, &described);
        let made =
            described.into_iter().zip(is_registrys).zip(shown).map(|((described, is_registrys), shown)| Family {
                form: match self.format {
                    Format::Protobuf(escaping) => Form::Protobuf(FamilyBytes::new(escaping, &described, &shown)),
                    format => Form::Text(Box::new(FamilyText::new(format, &described, &shown, self.shows_created))),
                },
                described,
                is_registrys,
                series: Texts::default(),
                order: None,
            });
        self.families = made.collect();
    }
}

impl Family {
    fn is_of(&self, other: &FamilySnapshot) -> bool {
        let Described { name, kind, unit, help } = &self.described;
        *name == other.name && *kind == other.kind && *unit == other.unit && *help == other.help
    }
}

/// What the families of a registry are.
#[derive(Default)]
struct Descriptions(Vec<Described>);

impl Visit for Descriptions {
    fn family(&mut self, family: &FamilyView<'_>) {
        self.0.push(Described {
            name: family.name.to_owned(),
            kind: family.kind,
            unit: family.unit.to_owned(),
            help: family.help.to_owned(),
        });
    }

    fn series(&mut self, _: &SeriesView<'_>) {}
}

/// A page in the making.
struct Page<'a> {
    renderer: &'a mut Renderer,
    /// Not behind yet; by name.
    others: std::slice::Iter<'a, FamilySnapshot>,
    out: &'a mut Vec<u8>,
    /// The family whose series come, one beyond it in `families`; families before it are behind.
    next: usize,
    /// Series of that family behind.
    series: usize,
    /// Its order, to be noted when all its series are behind.
    order: u64,
    /// Where the open protobuf message of that family begins.
    open: Option<usize>,
    /// Whether a family was met that the texts do not have: the page is not to be used.
    has_changed: bool,
}

impl<'a> Page<'a> {
    fn begin(renderer: &'a mut Renderer, out: &'a mut Vec<u8>, others: &'a [FamilySnapshot]) -> Page<'a> {
        Page { renderer, others: others.iter(), out, next: 0, series: 0, order: 0, open: None, has_changed: false }
    }

    /// Whether the page is whole.
    fn end(mut self) -> bool {
        self.close();
        self.write_others(None);
        !self.has_changed && self.next == self.renderer.families.len()
    }

    /// Writes the families of others that stand before the registry's family of this name, or all that are left.
    fn write_others(&mut self, before: Option<&str>) {
        let Renderer { families, told, labels, format, .. } = &mut *self.renderer;
        while let Some(family) = families.get_mut(self.next) {
            if family.is_registrys || before.is_some_and(|name| family.described.name.as_str() >= name) {
                return;
            }
            // Those that the registry has, too, are passed over.
            let Some(other) = self.others.find(|other| other.name >= family.described.name) else {
                self.has_changed = true;
                return;
            };
            if !family.is_of(other) {
                self.has_changed = true;
                return;
            }
            self.next += 1;
            let open = family.form.begin(self.out, other.series.len());
            for series in &other.series {
                labels.clear();
                let pairs = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                Form::write_labels(*format, labels, pairs);
                let (value, exemplars) = (told.value(&series.value), exemplars(&series.value));
                family.form.write(self.out, labels, value, exemplars, series.created_ms);
            }
            if let Some(start) = open {
                family.form.end(self.out, start);
            }
        }
    }

    /// Ends the family whose series came, if one is open.
    fn close(&mut self) {
        let Some(family) = self.next.checked_sub(1).and_then(|at| self.renderer.families.get_mut(at)) else { return };
        if let Some(start) = self.open.take() {
            family.form.end(self.out, start);
        }
        if family.is_registrys {
            // Where some are too many to be kept, those that are may not stand in their places.
            family.order = (family.series.len() >= self.series).then_some(self.order);
        }
    }
}

impl Visit for Page<'_> {
    fn family(&mut self, view: &FamilyView<'_>) {
        if self.has_changed {
            return;
        }
        self.close();
        self.write_others(Some(view.name));
        match self.renderer.families.get_mut(self.next) {
            // A registry's family stays what it was, so its name is enough.
            Some(family) if family.is_registrys && family.described.name == view.name => {
                self.open = family.form.begin(self.out, view.len);
                self.next += 1;
                self.series = 0;
                self.order = view.order;
                if family.order != Some(view.order) {
                    family.order = None;
                }
            }
            _ => self.has_changed = true,
        }
    }

    fn series(&mut self, view: &SeriesView<'_>) {
        let Renderer { families, labels, format, .. } = &mut *self.renderer;
        let Some(family) = self.next.checked_sub(1).and_then(|at| families.get_mut(at)).filter(|_| !self.has_changed)
        else {
            return;
        };
        let at = self.series;
        self.series += 1;
        let Family { form, series, order, .. } = family;
        if order.is_none() && series.key(at) != Some(view.key()) {
            series.cut(at);
            series.push(view.key(), |out| Form::write_labels(*format, out, view.labels()));
        }
        let text = match series.text(at) {
            Some(text) => text,
            None => {
                labels.clear();
                Form::write_labels(*format, labels, view.labels());
                labels
            }
        };
        let exemplars = if format.has_exemplars() { view.exemplars() } else { None };
        let exemplars = exemplars.as_deref().unwrap_or_default();
        form.write(self.out, text, Value::from(view.reading), exemplars, Some(view.created_ms));
    }

    fn totals(&mut self, totals: &[u64]) -> bool {
        let Some(family) = self.next.checked_sub(1).and_then(|at| self.renderer.families.get_mut(at)) else {
            return false;
        };
        // Without an order nothing is known of the labels.
        let Family { form: Form::Text(text), series, order: Some(_), .. } = family else { return false };
        if self.has_changed {
            return true;
        }
        let Some(labels) = series.run(self.series, totals.len()) else { return false };
        let is_written = text.write_totals(self.out, labels.zip(totals.iter().copied()));
        if is_written {
            self.series += totals.len();
        }
        is_written
    }
}
