//! Whether SELinux guards the machine, and how strictly.

use super::file::{ReadError, Text};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let enforce = Text::read_if_there(roots.sys.join("fs/selinux/enforce"))?;
    let enforce = enforce.map(|text| text.value()).transpose()?;
    let is_enabled = f64::from(u8::from(enforce.is_some()));
    out.gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false", is_enabled);
    let Some(enforce) = enforce else { return Ok(()) };
    let config = Text::read_if_there(roots.root.join("etc/selinux/config"))?;
    let configured = config.map_or(DISABLED, |text| configured_mode(&text));
    out.gauge("node_selinux_config_mode", "Configured SELinux enforcement mode", configured);
    out.gauge("node_selinux_current_mode", "Current SELinux enforcement mode", enforce);
    Ok(())
}

const DISABLED: f64 = -1.0;

/// The mode that the next start of the machine has.
fn configured_mode(config: &Text) -> f64 {
    let value = config.lines().filter_map(|line| line.trim().strip_prefix("SELINUX=")).next_back();
    match value.map(str::trim) {
        Some("enforcing") => 1.0,
        Some("permissive") => 0.0,
        _ => DISABLED,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn modes_are_told_where_it_is_enabled() {
        let dir = tempfile::tempdir().unwrap();
        let values = || {
            let mut out = Gathered::default();
            read(&Roots::under(dir.path()), &mut out).unwrap();
            out.floats().map(|(_, value)| value).collect::<Vec<f64>>()
        };
        assert_eq!(values(), [0.0]);
        fs::create_dir_all(dir.path().join("sys/fs/selinux")).unwrap();
        fs::write(dir.path().join("sys/fs/selinux/enforce"), "1").unwrap();
        assert_eq!(values(), [1.0, -1.0, 1.0]);
        fs::create_dir_all(dir.path().join("etc/selinux")).unwrap();
        fs::write(dir.path().join("etc/selinux/config"), "# SELINUX=enforcing\nSELINUX=permissive\n").unwrap();
        assert_eq!(values(), [1.0, 0.0, 1.0]);
    }
}
