//! The front door: settings from the environment, then serve until told to stop.

use std::process::ExitCode;

use gateway::{config::Settings, server};
use service::logging;

fn main() -> ExitCode {
    let settings = match Settings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            logging::start(tracing::level_filters::LevelFilter::INFO);
            tracing::error!(error = format!("{error:#}"), "the settings cannot be used");
            return ExitCode::from(2);
        }
    };
    logging::start(settings.log_level);
    match server::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the gateway stopped");
            ExitCode::FAILURE
        }
    }
}
