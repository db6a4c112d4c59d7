//! `kymo top`: the terminal over a server, a data directory or one program.

mod kept;
mod sources;

use std::fs::File;
use std::io::{self, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use kymo_core::pool::ThreadPool;
use kymo_core::{Clock, QueryContext, SystemClock};
use kymo_dashboard::terminal::{
    CastError, Options, Paint, Palette, Recorder, Running, Settings, Sources, ViewId, frame, replay,
    run as run_terminal, terminal_size,
};

use crate::failure::Failure;
use crate::output;
use crate::query::Moment;

use sources::Asked;
pub(crate) use sources::{Opened, server};

/// Questions that are asked at once.
const ASKERS: usize = 4;
/// Questions that wait for one of them; a view has two dozen at most, and those of the next come on top.
const WAITING: usize = 256;

/// Look at services, metrics, hosts and contexts on a terminal
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  kymo top
  kymo top --server http://127.0.0.1:9911 --view services
  kymo top --data-dir /var/lib/kymo --at -1h
  kymo top --attach 4711
  kymo top --once --view explore --query 'sum by (mode) (rate(node_cpu_seconds_total[1m]))' --width 100 --height 30
  kymo top --record trouble.cast; kymo top --replay trouble.cast

Press ? for the keys. Theme, span, bookmarks and histories are kept in kymo/top.json of the user's configuration folder."
)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    asked: Asked,
    /// The view to begin with [default: the last one]
    #[arg(long, value_name = "NAME", value_parser = view)]
    view: Option<ViewId>,
    /// The expression to explore
    #[arg(long, value_name = "EXPR")]
    query: Option<String>,
    /// The service to look at
    #[arg(long, value_name = "NAME", conflicts_with = "query")]
    service: Option<String>,
    /// How much time charts show, as a Prometheus duration
    #[arg(long, value_name = "DURATION", value_parser = span)]
    range: Option<i64>,
    /// Begin at this time instead of now: for old data
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<Moment>,
    /// Colours; none also where NO_COLOR is set
    #[arg(long, env = "KYMO_THEME", hide_env_values = true, value_name = "dark|light|none", value_parser = palette)]
    theme: Option<Palette>,
    /// Draw with ASCII only; else as the locale says
    #[arg(long)]
    ascii: bool,
    /// Print one frame and leave
    #[arg(long)]
    once: bool,
    /// Columns of the frame [default: those of the terminal, or 80]
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(40..=1000))]
    width: Option<u16>,
    /// Lines of the frame [default: those of the terminal, or 24]
    #[arg(long, value_name = "LINES", requires = "once", value_parser = clap::value_parser!(u16).range(10..=500))]
    height: Option<u16>,
    /// Record what is drawn and typed, in the format of asciinema
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    record: Option<PathBuf>,
    /// Play a recording
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "record"])]
    replay: Option<PathBuf>,
}

fn view(name: &str) -> Result<ViewId, String> {
    let names: Vec<&str> = ViewId::ALL.iter().map(|view| view.name()).collect();
    ViewId::of_name(name).ok_or_else(|| format!("expected {}", names.join(", ")))
}

fn palette(name: &str) -> Result<Palette, String> {
    Palette::of_name(name).ok_or_else(|| "expected dark, light or none".to_owned())
}

fn span(text: &str) -> Result<i64, String> {
    match kymo_core::text::parse_duration_ms(text) {
        Ok(ms) if ms > 0 => Ok(ms),
        _ => Err("expected a duration like 15m or 6h".to_owned()),
    }
}

/// Whether the locale can show more than ASCII.
pub(crate) fn unicode() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The colours for what is printed once.
pub(crate) fn wanted_palette() -> Palette {
    if no_color() || !io::stdout().is_terminal() { Palette::None } else { Palette::Dark }
}

/// Columns and lines of the terminal, where there is one.
pub(crate) fn screen_size() -> Option<(u16, u16)> {
    io::stdout().is_terminal().then(terminal_size).flatten()
}

pub(crate) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    if let Some(file) = &args.replay {
        return play(file);
    }
    let opened = args.asked.open(args.at)?;
    let settings = if args.once { Settings::default() } else { kept::read() };
    let begin = begin(args, settings, &opened);
    match args.once {
        true => once(begin, args.subject(), &opened),
        false => screen(begin, args, &opened),
    }
}

impl TopArgs {
    fn subject(&self) -> Option<&str> {
        self.query.as_deref().or(self.service.as_deref())
    }
}

fn begin(args: &TopArgs, mut settings: Settings, opened: &Opened) -> Options {
    settings.view = match (args.view, &args.query, &args.service) {
        (_, Some(_), _) => ViewId::Explore,
        (_, _, Some(_)) => ViewId::Service,
        (Some(view), None, None) => view,
        (None, None, None) if opened.only_contexts => ViewId::Contexts,
        (None, None, None) => settings.view,
    };
    settings.palette = args.theme.unwrap_or(settings.palette);
    if args.ascii {
        settings.unicode = Some(false);
    }
    if let Some(ms) = args.range {
        settings.span.set_length(ms);
    }
    let (width, height) = screen_size().unwrap_or((80, 24));
    Options {
        settings,
        source: opened.name.clone(),
        no_color: no_color(),
        unicode: unicode(),
        now_ms: opened.clock.now_ms(),
        size: (args.width.unwrap_or(width), args.height.unwrap_or(height)),
    }
}

fn once(options: Options, subject: Option<&str>, opened: &Opened) -> Result<ExitCode, Failure> {
    let paint = if wanted_palette() == Palette::None || options.no_color { Paint::Plain } else { Paint::Ansi };
    let ctx = QueryContext { clock: opened.clock.clone(), ..QueryContext::unlimited() };
    let text = frame(options, subject, &opened.sources, &ctx, paint);
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn screen(options: Options, args: &TopArgs, opened: &Opened) -> Result<ExitCode, Failure> {
    let recorder = match &args.record {
        None => None,
        Some(path) => {
            let failed =
                |error: io::Error| Failure::because(format_args!("cannot record to {}", path.display()), &error);
            let file = File::create(path).map_err(failed)?;
            Some(Recorder::begin(Box::new(file), options.size, options.now_ms).map_err(failed)?)
        }
    };
    leave_open(options, args.subject(), opened, recorder)
}

/// Opens the screen and comes back when the person leaves it.
pub(crate) fn leave_open(
    options: Options,
    subject: Option<&str>,
    opened: &Opened,
    recorder: Option<Recorder>,
) -> Result<ExitCode, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal here").hint("print one frame with --once"));
    }
    let pool = ThreadPool::start("kymo-ask", ASKERS, WAITING)
        .map_err(|error| Failure::because("cannot start the threads that ask", &error))?;
    let running = Running {
        sources: Sources { backend: opened.sources.backend.clone(), status: opened.sources.status.clone() },
        pool: Arc::new(pool),
        clock: opened.clock.clone(),
        subject: subject.map(str::to_owned),
        save: Box::new(kept::write),
        suspend: suspend(),
        recorder,
    };
    run_terminal(options, &running).map_err(|error| Failure::because("the screen ended", &error))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn suspend() -> Option<Box<dyn Fn()>> {
    use rustix::process::{Signal, getpid, kill_process};
    Some(Box::new(|| {
        // Without job control nothing happens, and the screen comes back at once.
        let _ = kill_process(getpid(), Signal::TSTP);
    }))
}

#[cfg(not(unix))]
fn suspend() -> Option<Box<dyn Fn()>> {
    None
}

fn play(file: &PathBuf) -> Result<ExitCode, Failure> {
    let failed = |error: CastError| Failure::because(format_args!("cannot play {}", file.display()), &error);
    let opened = File::open(file).map_err(|error| failed(error.into()))?;
    let mut out = io::stdout().lock();
    replay(BufReader::new(opened), &mut out, |pause| {
        std::thread::sleep(pause);
        true
    })
    .map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Options for a screen that nobody gave flags for.
pub(crate) fn plain_options(opened: &Opened, view: ViewId) -> Options {
    let settings = Settings { view, ..kept::read() };
    Options {
        settings,
        source: opened.name.clone(),
        no_color: no_color(),
        unicode: unicode(),
        now_ms: SystemClock::new().now_ms(),
        size: screen_size().unwrap_or((80, 24)),
    }
}
