use super::*;
use crate::terminal::theme::{Palette, Theme};

const START: i64 = 1_700_000_000_000;

fn rows(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
    cells.chunks(width).map(|row| row.concat().trim_end().to_owned()).collect()
}

fn drawn(chart: &Chart<'_>, width: u16, height: u16, unicode: bool) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    chart.render(area, &mut buffer, &Theme::new(Palette::None, unicode)).unwrap();
    rows(&buffer)
}

fn line(values: impl IntoIterator<Item = (i64, f64)>) -> Vec<Series> {
    let points = values.into_iter().map(|(step, value)| (START + step * 60_000, value)).collect();
    vec![Series { name: "a".to_owned(), points }]
}

fn minutes(count: i64) -> (i64, i64) {
    (START, START + count * 60_000)
}

#[test]
fn a_rising_line_goes_from_corner_to_corner() {
    let series = line((0..=30).map(|step| (step, step as f64)));
    let chart = Chart { series: &series, range: minutes(30), step_ms: 60_000, ..Chart::default() };
    let rows = drawn(&chart, 40, 6, false);
    assert!(rows[0].ends_with('*') && rows[4].contains("|*"), "{rows:#?}");
}

#[test]
fn where_nothing_was_measured_nothing_is_drawn() {
    let series = line((0..10).chain(20..=30).map(|step| (step, 5.0)));
    let chart = Chart { series: &series, range: minutes(30), step_ms: 60_000, ..Chart::default() };
    let rows = drawn(&chart, 64, 5, false);
    let row = rows.iter().find(|row| row.contains('*')).unwrap();
    let after = &row[row.find('*').unwrap()..];
    let gap = after.find(' ').map(|at| after[at..].find('*').unwrap()).unwrap();
    // From minute 9 to minute 20 of 30, on about 60 columns.
    assert!((18..=24).contains(&gap), "{gap} in {row:?}");
}

#[test]
fn a_logarithmic_scale_has_decades_and_hides_what_is_not_above_zero() {
    let series = line([(0, 0.0), (1, 1.0), (2, 10.0), (3, 100.0), (4, 1000.0)]);
    let chart = Chart { series: &series, range: minutes(4), step_ms: 60_000, log: true, ..Chart::default() };
    let rows = drawn(&chart, 50, 14, true);
    for label in ["1000", "100", "10", "1"] {
        assert!(rows.iter().any(|row| row.trim_start().starts_with(label)), "{label}: {rows:#?}");
    }
    let scale = Scale::of([0.0, 1.0, 1000.0].into_iter(), Unit::Number, true, false);
    assert!(!scale.shows(0.0) && !scale.shows(-1.0) && scale.shows(1.0));
    assert!((scale.share(10.0) - 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn stacked_series_add_up_and_one_without_a_value_adds_nothing() {
    let mut series = line([(0, 1.0), (1, 1.0), (2, 1.0)]);
    series.push(Series { name: "b".to_owned(), points: vec![(START, 2.0), (START + 120_000, 4.0)] });
    let stacks = stack(&series);
    let tops: Vec<f64> = stacks[1].points.iter().map(|(_, value)| *value).collect();
    assert_eq!(tops, [3.0, 1.0, 5.0]);
    let chart = Chart { series: &series, range: minutes(2), step_ms: 60_000, kind: Kind::Stacked, ..Chart::default() };
    let rows = drawn(&chart, 40, 8, false);
    assert!(rows.iter().any(|row| row.contains("oooo")) && rows[6].contains("****"), "{rows:#?}");
}

#[test]
fn scales_end_at_round_numbers() {
    for (values, unit, ends) in [
        ([0.0, 97.0], Unit::Number, (0.0, 100.0)),
        ([95.0, 97.0], Unit::Number, (95.0, 97.0)),
        ([0.0, 3_000_000.0], Unit::Bytes, (0.0, 3_145_728.0)),
        ([5.0, 5.0], Unit::Number, (4.0, 6.0)),
        ([-3.0, 3.0], Unit::Number, (-4.0, 4.0)),
    ] {
        let scale = Scale::of(values.into_iter(), unit, false, false);
        let ticks = scale.ticks(4);
        assert!(scale.share(ends.0) <= 0.51 && scale.share(ends.1) >= 0.49, "{values:?}: {scale:?} {ticks:?}");
        assert!(scale.share(values[0]) >= 0.0 && scale.share(values[1]) <= 1.0);
        assert!(ticks.len() >= 2 && ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
    }
    let nothing = Scale::of(std::iter::empty(), Unit::Number, false, false);
    assert_eq!(nothing.ticks(2).first(), Some(&0.0));
}

#[test]
fn time_ticks_are_round_moments_of_the_day() {
    let ticks = time_ticks((START, START + 3_600_000), 6);
    let labels: Vec<&str> = ticks.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(labels, ["22:20", "22:30", "22:40", "22:50", "23:00", "23:10"]);
    assert!(ticks.iter().all(|(time, _)| time % 600_000 == 0));
    let days = time_ticks((START, START + 5 * 86_400_000), 5);
    assert_eq!(days.iter().map(|(_, label)| label.as_str()).next(), Some("11-15"));
    let seconds = time_ticks((START, START + 30_000), 3);
    assert_eq!(seconds[0].1, "22:13:20");
}

#[test]
fn an_axis_has_a_label_of_time_and_two_of_values_wherever_it_ends() {
    for width in 12..80 {
        for minute in 0..30 {
            let end = START + minute * 60_000 + 7_000;
            let labels = time_labels((end - 900_000, end), width);
            assert!(!labels.is_empty(), "{width} columns, minute {minute}");
            assert!(labels.iter().all(|(x, label)| x + label.len() as u16 <= width), "{labels:?}");
            assert!(labels.windows(2).all(|two| two[0].0 + (two[0].1.len() as u16) < two[1].0), "{labels:?}");
        }
    }
    for (values, unit) in [
        ([0.866, 0.8715], Unit::Ratio),
        ([0.0, 0.0], Unit::BytesPerSecond),
        ([99.0, 99.1], Unit::Number),
        ([5e9, 5.01e9], Unit::Bytes),
    ] {
        for count in 1..8 {
            let ticks = Scale::of(values.into_iter(), unit, false, false).ticks(count);
            assert!(ticks.len() >= 2, "{values:?} {count}: {ticks:?}");
        }
    }
    assert_eq!(Scale::of([0.0].into_iter(), Unit::Bytes, false, true).ticks(4), [0.0, 1.0]);
}

#[test]
fn a_spark_keeps_gaps_and_ends_at_the_newest() {
    let theme = Theme::new(Palette::Dark, true);
    assert_eq!(spark(&[Some(0.0), None, Some(4.0), Some(8.0)], 6, &theme), "  ▁ ▅█");
    assert_eq!(spark(&[Some(0.0), Some(0.0)], 2, &theme), "▁▁");
    assert_eq!(spark(&[Some(1.0), Some(2.0), Some(3.0)], 2, &theme).chars().count(), 2);
}

#[test]
fn a_heatmap_is_darkest_where_most_observations_fall() {
    let column = |step: i64| {
        HeatColumn::of_classic(
            START + step * 60_000,
            &[(0.01, 0.0), (0.1, 100.0), (1.0, 105.0), (f64::INFINITY, 105.0)],
        )
    };
    let columns: Vec<HeatColumn> = (0..=10).filter(|step| *step != 5).map(column).collect();
    let map = Heatmap {
        columns: &columns,
        range: minutes(10),
        step_ms: 60_000,
        unit: Unit::Seconds,
        marks: &[],
        cursor: None,
    };
    let area = Rect::new(0, 0, 50, 9);
    let mut buffer = Buffer::empty(area);
    map.render(area, &mut buffer, &Theme::new(Palette::None, false)).unwrap();
    let rows = rows(&buffer);
    // Half of the scale is 10 to 100 ms, where the hundred are.
    assert!(rows[7].contains('#') && !rows[1].contains('#'), "{rows:#?}");
    let blank = rows[7].trim_start_matches(|char: char| char != '#').matches(' ').count();
    assert!((3..=6).contains(&blank), "the missing column is a gap: {rows:#?}");
}

#[test]
fn marks_and_the_cursor_stand_at_their_moments() {
    let series = line((0..=30).map(|step| (step, 5.0)));
    let marks = [Mark { time_ms: START + 15 * 60_000, text: "restart".to_owned() }];
    let chart = Chart {
        series: &series,
        range: minutes(30),
        step_ms: 60_000,
        marks: &marks,
        cursor: Some(START),
        ..Chart::default()
    };
    let rows = drawn(&chart, 44, 6, false);
    assert!(rows[0].contains("vrestart"), "{rows:#?}");
    let area = Rect::new(0, 0, 44, 6);
    let plot = chart.render(area, &mut Buffer::empty(area), &Theme::new(Palette::None, true)).unwrap();
    assert_eq!(
        (plot.time_at(plot.area.x), plot.time_at(plot.area.right() - 1)),
        (Some(START), Some(START + 1_800_000))
    );
    assert_eq!(plot.time_at(plot.area.right()), None);
}

#[test]
fn words_of_a_mark_hide_no_line() {
    let marks = [Mark { time_ms: START + 2 * 60_000, text: "a process started".to_owned() }];
    let drawn_over = |level: f64| {
        // Low for the first half, then at `level` of 10.
        let series = line((0..=30).map(|step| (step, if step < 15 { 1.0 } else { level })).chain([(31, 10.0)]));
        let chart = Chart { series: &series, range: minutes(31), step_ms: 60_000, marks: &marks, ..Chart::default() };
        drawn(&chart, 70, 6, true)[0].clone()
    };
    assert!(drawn_over(1.0).contains("▼a process started"), "{}", drawn_over(1.0));
    let cut = drawn_over(10.0);
    let dots = cut.chars().filter(|char| ('\u{2801}'..='\u{28ff}').contains(char)).count();
    assert!(cut.contains("▼a process started") && dots > 28, "{cut}");
    let full = {
        let series = line((0..=31).map(|step| (step, 10.0)).chain([(32, 0.0)]));
        let chart = Chart { series: &series, range: minutes(32), step_ms: 60_000, marks: &marks, ..Chart::default() };
        drawn(&chart, 70, 6, true)[0].clone()
    };
    assert!(full.contains('▼') && !full.contains("process"), "{full}");
}

#[test]
fn without_colours_letters_tell_lines_apart() {
    let mut series = line((0..=30).map(|step| (step, 2.0)));
    series.extend(line((0..=20).map(|step| (step, 8.0))));
    let chart = Chart { series: &series, range: minutes(30), step_ms: 60_000, ..Chart::default() };
    let rows = drawn(&chart, 44, 8, true);
    let at =
        |letter: char| rows.iter().enumerate().find_map(|(y, row)| Some((row.chars().position(|c| c == letter)?, y)));
    let ((a_x, a_y), (b_x, b_y)) = (at('a').unwrap(), at('b').unwrap());
    assert!(b_y < a_y && b_x < a_x && a_x == 43, "{rows:#?}");
    assert_eq!(sign(1, &Theme::new(Palette::None, true)), 'b');
    assert_eq!(sign(1, &Theme::new(Palette::Dark, true)), '━');
}
