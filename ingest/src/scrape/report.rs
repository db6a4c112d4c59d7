//! The series that a scraper stores about its scrapes.

/// A series about the scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Up,
    Duration,
    Scraped,
    Kept,
    SeriesAdded,
    Timeout,
    SampleLimit,
    BodyBytes,
}

impl Report {
    pub(super) const ALL: [Report; 8] = [
        Report::Up,
        Report::Duration,
        Report::Scraped,
        Report::Kept,
        Report::SeriesAdded,
        Report::Timeout,
        Report::SampleLimit,
        Report::BodyBytes,
    ];
    /// The first so many are always there, the others if the job wants more.
    pub(super) const USUAL: usize = 5;

    pub(super) fn name(self) -> &'static str {
        match self {
            Report::Up => "up",
            Report::Duration => "scrape_duration_seconds",
            Report::Scraped => "scrape_samples_scraped",
            Report::Kept => "scrape_samples_post_metric_relabeling",
            Report::SeriesAdded => "scrape_series_added",
            Report::Timeout => "scrape_timeout_seconds",
            Report::SampleLimit => "scrape_sample_limit",
            Report::BodyBytes => "scrape_body_size_bytes",
        }
    }
}
