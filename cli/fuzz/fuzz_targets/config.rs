//! Any text is a configuration, or faults that can be shown. A configuration is shown as a file that says the same.

#![no_main]

use std::path::Path;

use kymo::config::{Surroundings, parse};
use libfuzzer_sys::fuzz_target;

/// An environment of two variables, one of them awkward; no certificate is looked for.
const SURROUNDINGS: Surroundings = Surroundings {
    variable: |name| match name {
        "HOST" => Some("localhost".to_owned()),
        "ODD" => Some("ä\"b'c\\d\n{e: [f]}".to_owned()),
        _ => None,
    },
    clients: |_| Ok(()),
};

fuzz_target!(|written: &str| {
    let path = Path::new("/etc/kymo.yml");
    match parse(path, written, SURROUNDINGS) {
        Ok(configuration) => {
            let shown = configuration.text;
            // What stands for a variable when it is read again was meant literally the first time.
            if shown.contains("${") {
                return;
            }
            match parse(path, &shown, SURROUNDINGS) {
                Ok(again) => assert_eq!(again.kymo, configuration.kymo, "shown as\n{shown}"),
                Err(faults) => panic!("{}\nshown as\n{shown}", faults.lines()),
            }
        }
        Err(faults) => {
            assert!(faults.count() > 0, "refused without a fault");
            assert_eq!(faults.framed().is_empty(), faults.lines().is_empty());
        }
    }
});
