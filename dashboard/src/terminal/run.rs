//! The loop that has a terminal: keys in, frames out, questions to a pool.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use kymo_core::{BlockingPool, Clock, QueryContext};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event as Pressed,
};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::{Position, Rect};

use super::app::{App, Effect, Event, Options};
use super::ask::Sources;
use super::cast::Recorder;
use super::screen;
use super::settings::Settings;

/// How often the thread that waits for keys looks whether it should end.
const KEYS_POLL: Duration = Duration::from_millis(100);
/// How long a frame waits for answers that are under way, so that a round of questions makes one frame and not one for each.
const HOLD: Duration = Duration::from_millis(30);
/// Longest that a question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the screen ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The terminal cannot be read or written.
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
}

/// What the loop needs from outside.
pub struct Running {
    /// Who is asked.
    pub sources: Sources,
    /// Where questions wait for their answers.
    pub pool: Arc<dyn BlockingPool>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The query or the service to begin with.
    pub subject: Option<String>,
    /// Keeps the settings; what goes wrong with that is its own to tell.
    pub save: Box<dyn Fn(&Settings)>,
    /// Stops this process until the person comes back; `None` where that cannot be.
    pub suspend: Option<Box<dyn Fn()>>,
    /// Where to record.
    pub recorder: Option<Recorder>,
}

/// Standard output, perhaps recorded. A frame is written at once.
struct Out {
    frame: Vec<u8>,
    recorder: Option<Recorder>,
    clock: Arc<dyn Clock>,
    began: Duration,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        if let Some(recorder) = &self.recorder {
            let at = self.clock.monotonic().saturating_sub(self.began);
            recorder.note(at, "o", &String::from_utf8_lossy(&self.frame))?;
        }
        let mut out = io::stdout().lock();
        out.write_all(&self.frame)?;
        self.frame.clear();
        out.flush()
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste, cursor::Hide)
}

fn leave() -> io::Result<()> {
    execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, LeaveAlternateScreen, cursor::Show)?;
    disable_raw_mode()
}

/// Columns and lines of the terminal; `None` where there is none.
pub fn terminal_size() -> Option<(u16, u16)> {
    size().ok()
}

/// Gives the terminal back, whatever happened.
struct Screen;

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = leave();
    }
}

/// Runs until the person leaves. The terminal is given back also when something fails.
///
/// # Errors
/// [`RunError`] when the terminal cannot be used.
pub fn run(options: Options, running: &Running) -> Result<(), RunError> {
    let stop = AtomicBool::new(false);
    let (send, events) = mpsc::channel();
    std::thread::scope(|scope| {
        let screen = Screen;
        enter()?;
        let keys = send.clone();
        let stop_keys = &stop;
        std::thread::Builder::new().name("kymo-keys".to_owned()).spawn_scoped(scope, move || {
            read_keys(&keys, stop_keys);
        })?;
        let done = events_loop(options, running, &send, &events);
        // Relaxed: the flag alone says it.
        stop.store(true, Ordering::Relaxed);
        drop(screen);
        done
    })
}

fn read_keys(to: &Sender<Event>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let event = match event::poll(KEYS_POLL) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let event = match event {
            Ok(Pressed::Key(key)) => Event::Key(key),
            Ok(Pressed::Mouse(mouse)) => Event::Mouse(mouse),
            Ok(Pressed::Paste(text)) => Event::Paste(text),
            Ok(Pressed::Resize(width, height)) => Event::Resize(width, height),
            Ok(Pressed::FocusGained | Pressed::FocusLost) => continue,
            // The terminal is gone; the loop notices when it draws.
            Err(_) => return,
        };
        if to.send(event).is_err() {
            return;
        }
    }
}

fn events_loop(
    options: Options,
    running: &Running,
    send: &Sender<Event>,
    events: &Receiver<Event>,
) -> Result<(), RunError> {
    let clock = &running.clock;
    let out =
        Out { frame: Vec::new(), recorder: running.recorder.clone(), clock: clock.clone(), began: clock.monotonic() };
    let mut canvas = Canvas { terminal: Terminal::new(CrosstermBackend::new(out))?, shown: None };
    canvas.wipe()?;
    let began = clock.monotonic();
    let view = options.settings.view;
    let (mut app, mut effects) = App::new(options);
    if let Some(subject) = &running.subject {
        app.open(view, Some(subject), &mut effects);
    }
    if perform(effects, &mut app, running, send, &mut canvas)? {
        return Ok(());
    }
    // Since when there is something new that is not drawn yet.
    let mut held: Option<Duration> = None;
    loop {
        let left = held.map(|since| (since + HOLD).saturating_sub(clock.monotonic())).filter(|left| !left.is_zero());
        if left.is_none() {
            canvas.draw(&mut app)?;
            held = None;
        }
        // Answers come in bursts: all that are there are taken before the next frame.
        let mut waiting = Vec::new();
        let pause = Duration::from_millis(u64::try_from(app.wake_ms() - clock.now_ms()).unwrap_or(0).clamp(1, 1_000));
        let pause = left.map_or(pause, |left| left.min(pause));
        match events.recv_timeout(pause) {
            Ok(event) => waiting.push(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        waiting.extend(std::iter::from_fn(|| events.try_recv().ok()).take(1_000));
        // What a person does is shown at once.
        let is_person = waiting.iter().any(|event| !matches!(event, Event::Answer(..)));
        let mut is_new = !waiting.is_empty();
        waiting.insert(0, Event::Tick(clock.now_ms()));
        for event in waiting {
            if let Some(recorder) = &running.recorder {
                let at = clock.monotonic().saturating_sub(began);
                match &event {
                    Event::Key(key) => recorder.note(at, "i", &format!("{:?}", key.code))?,
                    Event::Resize(width, height) => recorder.note(at, "r", &format!("{width}x{height}"))?,
                    _ => {}
                }
            }
            let effects = app.update(event);
            is_new |= !effects.is_empty();
            if perform(effects, &mut app, running, send, &mut canvas)? {
                return Ok(());
            }
        }
        held = match (is_person || !app.is_asking(), is_new) {
            (true, _) => None,
            (false, true) => held.or_else(|| Some(clock.monotonic())),
            (false, false) => held,
        };
    }
}

/// The terminal, and what is on it.
struct Canvas {
    terminal: Terminal<CrosstermBackend<Out>>,
    shown: Option<Buffer>,
}

impl Canvas {
    /// Draws the state. Where nothing changed nothing is sent: every frame has a price on a slow line.
    fn draw(&mut self, app: &mut App) -> io::Result<()> {
        let area = Rect::from((Position::ORIGIN, self.terminal.size()?));
        let mut next = Buffer::empty(area);
        app.saw(screen::render(app, area, &mut next));
        if self.shown.as_ref() == Some(&next) {
            return Ok(());
        }
        self.terminal.draw(|frame| {
            // The size may have changed since it was asked for.
            let same = frame.area().intersection(area);
            for position in same.positions() {
                frame.buffer_mut()[position] = next[position].clone();
            }
        })?;
        self.shown = Some(next);
        Ok(())
    }

    /// Clears the screen, so that the next frame is drawn whole.
    ///
    /// `Terminal::clear` would ask the terminal where its cursor is, and fail where the answer takes two seconds or never comes.
    fn wipe(&mut self) -> io::Result<()> {
        self.shown = None;
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }
}

/// Does what the state wants; whether it is over.
fn perform(
    effects: Vec<Effect>,
    app: &mut App,
    running: &Running,
    send: &Sender<Event>,
    canvas: &mut Canvas,
) -> Result<bool, RunError> {
    for effect in effects {
        match effect {
            Effect::Ask(question, ask) => {
                let (sources, clock, send) = (running.sources.clone(), running.clock.clone(), send.clone());
                let job = move || {
                    let deadline = Some(clock.monotonic() + PATIENCE);
                    let ctx = QueryContext { deadline, clock, ..QueryContext::unlimited() };
                    // Nobody waits for it any more once the screen is closed.
                    let _ = send.send(Event::Answer(question, ask.answer(&sources, &ctx)));
                };
                if running.pool.try_execute(Box::new(job)).is_err() {
                    app.give_up(question);
                }
            }
            Effect::Copy(text) => {
                let out = canvas.terminal.backend_mut();
                write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
                out.flush()?;
            }
            Effect::Save => (running.save)(&app.settings),
            Effect::Suspend => {
                if let Some(suspend) = &running.suspend {
                    leave()?;
                    suspend();
                    enter()?;
                    canvas.wipe()?;
                    if let Ok((width, height)) = size() {
                        send.send(Event::Resize(width, height)).unwrap_or_default();
                    }
                }
            }
            Effect::Quit => return Ok(true),
        }
    }
    Ok(false)
}

/// RFC 4648, with padding: what OSC 52 carries.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            match at <= chunk.len() {
                true => text.push(char::from(SIGNS[(word >> (18 - 6 * at) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }
}
