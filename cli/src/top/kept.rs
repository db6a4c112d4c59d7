//! The settings of `kymo top` in the user's configuration folder.

use std::fs;
use std::path::PathBuf;

use kymo_dashboard::terminal::Settings;

/// `$XDG_CONFIG_HOME/kymo/top.json`, or below `~/.config`; `None` for a user without a home.
fn file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(base.join("kymo").join("top.json"))
}

/// What was kept; the defaults where there is nothing, or nothing that can be read.
pub(super) fn read() -> Settings {
    let Some(text) = file().and_then(|file| fs::read_to_string(file).ok()) else { return Settings::default() };
    Settings::read(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "the settings of kymo top cannot be read and are begun anew");
        Settings::default()
    })
}

/// Keeps the settings. Where that fails, the screen goes on without.
pub(super) fn write(settings: &Settings) {
    let Some(file) = file() else { return };
    // Beside and then into place, so that a reader sees all of it or nothing.
    let partial = file.with_extension("json.partial");
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&partial, settings.text()))
        .and_then(|()| fs::rename(&partial, &file));
    if let Err(error) = written {
        tracing::debug!(%error, file = %file.display(), "the settings of kymo top cannot be kept");
    }
}
