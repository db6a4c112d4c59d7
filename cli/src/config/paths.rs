//! Paths in a file are relative to the folder the file is in, as in Prometheus.

use std::path::{Path, PathBuf};

use kymo_core::config::{Authorization, BasicAuth, HeaderValues, OAuth2, TlsConfig};
use kymo_ingest::scrape::{HttpSdConfig, ScrapeConfig};

use super::file::ConfigFile;

/// Makes every path of the file one that does not depend on where it was written.
pub(super) fn resolve(file: &mut ConfigFile, folder: &Path) {
    let folder = Folder(folder);
    folder.optional(&mut file.global.query_log_file);
    folder.optional(&mut file.kymo.data_dir);
    if let Some(metrics) = &mut file.metrics {
        folder.optional(&mut metrics.bearer_token_file);
    }
    folder.optional(&mut file.kymo.auth_token_file);
    if let Some(redis) = &mut file.kymo.state.redis {
        folder.optional(&mut redis.password_file);
    }
    for entry in &mut file.scrape_configs {
        folder.job(&mut entry.value);
    }
}

struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn path(&self, path: &mut PathBuf) {
        // `join` keeps an absolute path as it is.
        *path = self.0.join(&*path);
    }

    fn optional(&self, path: &mut Option<PathBuf>) {
        if let Some(path) = path {
            self.path(path);
        }
    }

    fn job(&self, job: &mut ScrapeConfig) {
        for files in &mut job.file_sd_configs {
            for pattern in &mut files.files {
                *pattern = self.0.join(&*pattern).to_string_lossy().into_owned();
            }
        }
        for endpoint in &mut job.http_sd_configs {
            let HttpSdConfig { basic_auth, authorization, oauth2, bearer_token_file, tls_config, http_headers, .. } =
                endpoint;
            self.credentials(basic_auth, authorization, oauth2, bearer_token_file);
            self.tls(tls_config);
            self.headers(http_headers.values_mut());
        }
        let ScrapeConfig { basic_auth, authorization, oauth2, bearer_token_file, tls_config, http_headers, .. } = job;
        self.credentials(basic_auth, authorization, oauth2, bearer_token_file);
        self.tls(tls_config);
        self.headers(http_headers.values_mut());
    }

    fn credentials(
        &self,
        basic_auth: &mut Option<BasicAuth>,
        authorization: &mut Option<Authorization>,
        oauth2: &mut Option<OAuth2>,
        bearer_token_file: &mut Option<PathBuf>,
    ) {
        if let Some(basic) = basic_auth {
            self.optional(&mut basic.username_file);
            self.optional(&mut basic.password_file);
        }
        if let Some(authorization) = authorization {
            self.optional(&mut authorization.credentials_file);
        }
        if let Some(oauth2) = oauth2 {
            self.optional(&mut oauth2.client_secret_file);
            self.tls(&mut oauth2.tls_config);
        }
        self.optional(bearer_token_file);
    }

    fn tls(&self, tls: &mut Option<TlsConfig>) {
        if let Some(tls) = tls {
            self.optional(&mut tls.ca_file);
            self.optional(&mut tls.cert_file);
            self.optional(&mut tls.key_file);
        }
    }

    fn headers<'h>(&self, headers: impl Iterator<Item = &'h mut HeaderValues>) {
        for values in headers {
            values.files.iter_mut().for_each(|path| self.path(path));
        }
    }
}
