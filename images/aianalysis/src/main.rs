//! The front door: settings from the environment, then control until told to stop.
//!
//! The modules in the order in which an `AIAnalysis` meets them.

mod config;
mod server; // starts the parts, stops them in order

mod controller; // watches, and takes each resource as far as it goes
mod resource; // the custom resource
mod status; // what its status says at each turn
mod step; // what is to be done next: the decision

mod audit;
mod health;
mod holmes; // holmesgpt-api
mod metrics;

use std::process::ExitCode;

use service::logging;

use config::Settings;

fn main() -> ExitCode {
    let settings = match Settings::read(|name: &str| std::env::var(name).ok()) {
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
            tracing::error!(error = format!("{error:#}"), "the controller stopped");
            ExitCode::FAILURE
        }
    }
}
