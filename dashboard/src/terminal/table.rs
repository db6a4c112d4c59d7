//! Lists: columns, a chosen row, an order, a search.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::keys::Action;
use super::screen::{Hits, Target};
use super::text;
use super::theme::Theme;

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Columns of the terminal; 0 for a share of what is left.
    pub width: u16,
    /// Figures stand at the right.
    pub right: bool,
    /// Left out where the list is narrower than this.
    pub from_width: u16,
}

impl Column {
    /// Text that takes what is left.
    pub(super) const fn wide(title: &'static str) -> Column {
        Column { title, width: 0, right: false, from_width: 0 }
    }

    /// Text of a fixed width.
    pub(super) const fn text(title: &'static str, width: u16) -> Column {
        Column { title, width, right: false, from_width: 0 }
    }

    /// A figure.
    pub(super) const fn figure(title: &'static str, width: u16) -> Column {
        Column { title, width, right: true, from_width: 0 }
    }

    /// The same, left out of lists narrower than `width`.
    pub(super) const fn from(self, width: u16) -> Column {
        Column { from_width: width, ..self }
    }
}

/// What stands in a row and a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    /// The text.
    pub text: String,
    /// How it is shown.
    pub style: Style,
}

impl Cell {
    /// A text and how it is shown.
    pub(super) fn new(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }

    /// An ordinary text.
    pub(super) fn plain(text: impl Into<String>) -> Cell {
        Cell::new(text, Style::new())
    }
}

/// No column has this number.
const UNSORTED: usize = usize::MAX;

/// Where a person is in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// The chosen row, in the order shown.
    pub chosen: usize,
    /// The chosen column.
    pub column: usize,
    /// The column that rows are sorted by, and whether the largest comes first.
    pub sort: (usize, bool),
}

impl TableState {
    /// The first row, sorted by that column.
    pub(super) fn sorted_by(column: usize, descending: bool) -> TableState {
        TableState { chosen: 0, column: 0, sort: (column, descending) }
    }

    /// The first row of a list whose order is its own.
    pub(super) fn unsorted() -> TableState {
        TableState::sorted_by(UNSORTED, true)
    }

    /// Moves by a key; whether it was one of a list.
    pub(super) fn act(&mut self, action: Action, rows: usize, columns: usize, page: usize) -> bool {
        let last = rows.saturating_sub(1);
        match action {
            Action::Up => self.chosen = self.chosen.saturating_sub(1),
            Action::Down => self.chosen = (self.chosen + 1).min(last),
            Action::PageUp => self.chosen = self.chosen.saturating_sub(page),
            Action::PageDown => self.chosen = (self.chosen + page).min(last),
            Action::First => self.chosen = 0,
            Action::Last => self.chosen = last,
            Action::Left => self.column = self.column.saturating_sub(1),
            Action::Right => self.column = (self.column + 1).min(columns.saturating_sub(1)),
            Action::Sort | Action::Reverse if self.sort.0 == UNSORTED => {}
            Action::Sort => self.sort = ((self.sort.0 + 1) % columns.max(1), true),
            Action::Reverse => self.sort.1 = !self.sort.1,
            _ => return false,
        }
        true
    }

    /// Sorts by a column that was clicked, or turns its order round.
    pub(super) fn sort_by(&mut self, column: usize) {
        self.sort = if self.sort.0 == column { (column, !self.sort.1) } else { (column, true) };
    }
}

/// Rows that are shown of `rows` in `height` lines, so that the chosen one is among them.
pub(super) fn window(chosen: usize, rows: usize, height: usize) -> std::ops::Range<usize> {
    let start = chosen.saturating_sub(height / 2).min(rows.saturating_sub(height));
    start..rows.min(start + height)
}

/// A list to be drawn.
pub(super) struct Table<'a, F: Fn(usize, usize) -> Cell> {
    /// Its columns.
    pub columns: &'a [Column],
    /// How many rows there are.
    pub rows: usize,
    /// Where the person is; `None` for a list that is only looked at.
    pub state: Option<&'a TableState>,
    /// What stands in a row and a column; asked for the visible ones only.
    pub cell: F,
    /// Said where there are no rows.
    pub empty: &'a str,
    /// Which list of the view it is, for the mouse.
    pub number: usize,
}

impl<F: Fn(usize, usize) -> Cell> Table<'_, F> {
    /// Draws headings and rows.
    pub(super) fn render(&self, area: Rect, buffer: &mut Buffer, theme: &Theme, hits: &mut Hits) {
        if area.height < 2 || area.width < 4 {
            return;
        }
        let places = self.places(area);
        for (number, (column, x, width)) in places.iter().enumerate() {
            let sort = self.state.map(|state| state.sort).filter(|(at, _)| *at == *column);
            let arrow = match sort {
                Some((_, true)) => theme.glyph("▾", "v"),
                Some((_, false)) => theme.glyph("▴", "^"),
                None => "",
            };
            let definition = &self.columns[*column];
            let title = match definition.right {
                true => format!("{arrow}{}", definition.title),
                false => format!("{}{arrow}", definition.title),
            };
            put(buffer, (*x, area.y, *width), &title, theme.accent(), definition.right, theme);
            let until = places.get(number + 1).map_or(area.right(), |(_, next, _)| *next);
            let place = Rect { x: *x, y: area.y, width: until - x, height: 1 };
            hits.add(place, Target::Heading(self.number, *column));
        }
        if self.rows == 0 {
            let text = text::fit(&theme.plain(self.empty), usize::from(area.width), theme.ellipsis());
            buffer.set_string(area.x, area.y + 1, text, theme.dim());
            return;
        }
        let height = usize::from(area.height - 1);
        let chosen = self.state.map(|state| state.chosen.min(self.rows - 1));
        let shown = window(chosen.unwrap_or(0), self.rows, height);
        for (line, row) in shown.clone().enumerate() {
            let y = area.y + 1 + line as u16;
            let place = Rect { x: area.x, y, width: area.width, height: 1 };
            let is_chosen = chosen == Some(row);
            for (column, x, width) in &places {
                let cell = (self.cell)(row, *column);
                put(buffer, (*x, y, *width), &cell.text, cell.style, self.columns[*column].right, theme);
            }
            if is_chosen {
                buffer.set_style(place, theme.chosen());
                let at = self.state.map_or(0, |state| state.column);
                if let Some((_, x, width)) = places.iter().find(|(column, _, _)| *column == at)
                    && at > 0
                {
                    let cell = Rect { x: *x, y, width: *width, height: 1 };
                    buffer.set_style(cell, Style::new().add_modifier(ratatui::style::Modifier::UNDERLINED));
                }
            }
            hits.add(place, Target::Row(self.number, row));
        }
        if self.rows > height
            && let Some((last, x, width)) = places.last()
        {
            let text = format!("{}-{} of {}", shown.start + 1, shown.end, self.rows);
            let title = self.columns[*last].title.len() as u16;
            let needed = text.len() as u16 + if title > 0 { title + 2 } else { 0 };
            if needed <= *width && !self.columns[*last].right {
                buffer.set_string(x + width - text.len() as u16, area.y, text, theme.dim());
            }
        }
    }

    /// Columns that find room: number, left edge, width.
    fn places(&self, area: Rect) -> Vec<(usize, u16, u16)> {
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|column| area.width >= self.columns[*column].from_width).collect();
        let gaps = shown.len().saturating_sub(1) as u16;
        let fixed: u16 = shown.iter().map(|column| self.columns[*column].width).sum::<u16>() + gaps;
        let wide = shown.iter().filter(|column| self.columns[**column].width == 0).count() as u16;
        let left = area.width.saturating_sub(fixed);
        let mut places = Vec::new();
        let (mut x, mut given) = (area.x, 0);
        for column in shown {
            let width = match self.columns[column].width {
                0 => {
                    given += 1;
                    left / wide.max(1) + u16::from(given == wide) * (left % wide.max(1))
                }
                width => width,
            };
            let width = width.min(area.right().saturating_sub(x));
            if width == 0 {
                continue;
            }
            places.push((column, x, width));
            x += width + 1;
        }
        places
    }
}

/// Puts a text into `(x, y, width)`.
pub(super) fn put(buffer: &mut Buffer, place: (u16, u16, u16), text: &str, style: Style, right: bool, theme: &Theme) {
    let (x, y, width) = place;
    let shown = text::fit(&theme.plain(text), usize::from(width), theme.ellipsis());
    let used = text::width(&shown) as u16;
    let x = if right { x + width.saturating_sub(used) } else { x };
    buffer.set_string(x, y, shown, style);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_row_is_always_shown() {
        for rows in [0, 1, 5, 100] {
            for chosen in 0..rows {
                let shown = window(chosen, rows, 7);
                assert!(shown.contains(&chosen) && shown.len() == rows.min(7), "{chosen} of {rows}: {shown:?}");
            }
        }
    }

    #[test]
    fn keys_stay_inside_the_list() {
        let mut state = TableState::sorted_by(1, true);
        state.act(Action::PageDown, 3, 2, 10);
        assert_eq!(state.chosen, 2);
        state.act(Action::Up, 3, 2, 10);
        state.act(Action::Right, 3, 2, 10);
        state.act(Action::Right, 3, 2, 10);
        assert_eq!((state.chosen, state.column), (1, 1));
        state.sort_by(1);
        assert_eq!(state.sort, (1, false));
        assert!(!state.act(Action::Quit, 3, 2, 10));
        let mut own = TableState::unsorted();
        assert!(own.act(Action::Sort, 3, 2, 10) && own == TableState::unsorted());
    }
}
