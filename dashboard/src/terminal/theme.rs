//! Colours and glyphs: what the terminal can show and the person wants to see.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use serde::{Deserialize, Serialize};

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Palette {
    /// Light on dark.
    #[default]
    Dark,
    /// Dark on light.
    Light,
    /// None: only bold, dim, reverse and underline.
    None,
}

impl Palette {
    /// By name.
    pub fn of_name(name: &str) -> Option<Palette> {
        match name {
            "dark" => Some(Palette::Dark),
            "light" => Some(Palette::Light),
            "none" => Some(Palette::None),
            _ => None,
        }
    }
}

/// How good or bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mood {
    /// Nothing is known.
    Unknown,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
}

/// Everything that is drawn asks here how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    palette: Palette,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
}

const SERIES_DARK: [Color; 8] = [
    Color::Indexed(80),
    Color::Indexed(215),
    Color::Indexed(141),
    Color::Indexed(149),
    Color::Indexed(211),
    Color::Indexed(75),
    Color::Indexed(222),
    Color::Indexed(252),
];
const SERIES_LIGHT: [Color; 8] = [
    Color::Indexed(25),
    Color::Indexed(130),
    Color::Indexed(91),
    Color::Indexed(64),
    Color::Indexed(162),
    Color::Indexed(31),
    Color::Indexed(94),
    Color::Indexed(240),
];
const HEAT_DARK: [Color; 8] = [
    Color::Indexed(236),
    Color::Indexed(54),
    Color::Indexed(90),
    Color::Indexed(126),
    Color::Indexed(161),
    Color::Indexed(202),
    Color::Indexed(214),
    Color::Indexed(228),
];
const HEAT_LIGHT: [Color; 8] = [
    Color::Indexed(254),
    Color::Indexed(224),
    Color::Indexed(217),
    Color::Indexed(210),
    Color::Indexed(203),
    Color::Indexed(161),
    Color::Indexed(125),
    Color::Indexed(89),
];

impl Theme {
    /// Colours and glyphs.
    pub fn new(palette: Palette, unicode: bool) -> Theme {
        Theme { palette, unicode }
    }

    /// Its colours.
    pub fn palette(&self) -> Palette {
        self.palette
    }

    fn style(&self, dark: Color, light: Color, plain: Modifier) -> Style {
        match self.palette {
            Palette::Dark => Style::new().fg(dark),
            Palette::Light => Style::new().fg(light),
            Palette::None => Style::new().add_modifier(plain),
        }
    }

    /// Ordinary text: the terminal's own colours.
    pub fn text(&self) -> Style {
        Style::new()
    }

    /// What may be overlooked.
    pub fn dim(&self) -> Style {
        self.style(Color::Indexed(245), Color::Indexed(244), Modifier::DIM)
    }

    /// What must not be overlooked.
    pub fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Frames and axes.
    pub fn frame(&self) -> Style {
        self.style(Color::Indexed(240), Color::Indexed(250), Modifier::DIM)
    }

    /// Headings, keys, names to click.
    pub fn accent(&self) -> Style {
        self.style(Color::Indexed(80), Color::Indexed(25), Modifier::BOLD)
    }

    /// The row or the tab that is chosen.
    pub fn chosen(&self) -> Style {
        match self.palette {
            Palette::Dark => Style::new().bg(Color::Indexed(238)).add_modifier(Modifier::BOLD),
            Palette::Light => Style::new().bg(Color::Indexed(253)).add_modifier(Modifier::BOLD),
            Palette::None => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// How well something does.
    pub fn mood(&self, mood: Mood) -> Style {
        match mood {
            Mood::Unknown => self.dim(),
            Mood::Good => self.style(Color::Indexed(114), Color::Indexed(28), Modifier::empty()),
            Mood::Warn => self.style(Color::Indexed(221), Color::Indexed(136), Modifier::BOLD),
            Mood::Bad => {
                self.style(Color::Indexed(203), Color::Indexed(160), Modifier::BOLD).add_modifier(Modifier::BOLD)
            }
        }
    }

    /// A banner across the screen.
    pub fn banner(&self) -> Style {
        match self.palette {
            Palette::None => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            _ => Style::new().fg(Color::Indexed(231)).bg(Color::Indexed(124)).add_modifier(Modifier::BOLD),
        }
    }

    /// Wrong text, as it is typed.
    pub fn wrong(&self) -> Style {
        self.mood(Mood::Bad).add_modifier(Modifier::UNDERLINED)
    }

    /// The colour of a series of a chart.
    pub fn series(&self, number: usize) -> Color {
        match self.palette {
            Palette::Dark => SERIES_DARK[number % SERIES_DARK.len()],
            Palette::Light => SERIES_LIGHT[number % SERIES_LIGHT.len()],
            Palette::None => Color::Reset,
        }
    }

    /// The colour of the same series as it was before.
    pub fn past(&self) -> Color {
        match self.palette {
            Palette::Dark => Color::Indexed(242),
            Palette::Light => Color::Indexed(248),
            Palette::None => Color::Reset,
        }
    }

    /// A cell of a heatmap: its character and style for a share of the fullest cell, 0 to 1.
    pub fn heat(&self, share: f64) -> (char, Style) {
        const ASCII: [char; 8] = [' ', '.', ':', '-', '=', '+', '*', '#'];
        const BLOCKS: [char; 8] = [' ', '░', '░', '▒', '▒', '▓', '▓', '█'];
        if share <= 0.0 {
            return (' ', Style::new());
        }
        let level = ((share.sqrt() * 7.0).ceil() as usize).clamp(1, 7);
        let char = match (self.unicode, self.palette) {
            (false, _) => ASCII[level],
            (true, Palette::None) => BLOCKS[level],
            (true, _) => '█',
        };
        let style = match self.palette {
            Palette::Dark => Style::new().fg(HEAT_DARK[level]),
            Palette::Light => Style::new().fg(HEAT_LIGHT[level]),
            Palette::None => Style::new(),
        };
        (char, style)
    }

    /// What a chart is drawn with.
    pub fn marker(&self) -> Marker {
        if self.unicode { Marker::Braille } else { Marker::Custom('*') }
    }

    /// What is drawn under a chart's line.
    pub fn area_marker(&self) -> Marker {
        if self.unicode { Marker::Braille } else { Marker::Custom(':') }
    }

    /// One of two spellings.
    pub fn glyph(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// At the end of a text that was cut.
    pub fn ellipsis(&self) -> &'static str {
        self.glyph("…", "~")
    }

    /// The sign of a mood.
    pub fn sign(&self, mood: Mood) -> &'static str {
        match mood {
            Mood::Unknown => self.glyph("○", "?"),
            Mood::Good => self.glyph("●", "+"),
            Mood::Warn => self.glyph("▲", "!"),
            Mood::Bad => self.glyph("✖", "X"),
        }
    }

    /// Eight levels of a sparkline, lowest first.
    pub fn spark(&self) -> [char; 8] {
        if self.unicode {
            ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            ['_', '.', '-', '~', '=', '+', '*', '#']
        }
    }

    /// Text as this terminal can show it: without Unicode, what is not ASCII becomes its nearest sign.
    pub fn plain(&self, text: &str) -> String {
        if self.unicode || text.is_ascii() {
            return text.to_owned();
        }
        text.chars()
            .map(|char| match char {
                'µ' => 'u',
                '–' | '—' => '-',
                '…' => '~',
                '→' => '>',
                '←' => '<',
                '↑' => '^',
                '↓' => 'v',
                '·' => '.',
                '≥' => '>',
                char if char.is_ascii() => char,
                _ => '?',
            })
            .collect()
    }
}
