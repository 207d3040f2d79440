//! The command line.

use std::time::Duration;

pub const USAGE: &str = "\
Two services on real sockets, found through discovery and called through the client, while instances die, come,
grow slow and fail.

Usage: fleet [--rate N] [--seconds N] [--json]

  --rate N      calls per second to each of the two services, 20 to 1000 (default 200)
  --seconds N   length of the run, 9 to 28 (default 18)
  --json        print the result as JSON too, on the last line
  --help        print this";

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub rate: u32,
    pub seconds: u32,
    pub json: bool,
}

impl Options {
    /// How long the run is.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// How many calls each service gets.
    pub fn calls(&self) -> u32 {
        self.rate * self.seconds
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Options),
    Help,
}

/// Reads the arguments, or says what is wrong with them.
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options { rate: 200, seconds: 18, json: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rate" => options.rate = number(&arg, args.next(), 20, 1000)?,
            "--seconds" => options.seconds = number(&arg, args.next(), 9, 28)?,
            "--json" => options.json = true,
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    Ok(Command::Run(options))
}

fn number(flag: &str, value: Option<String>, least: u32, most: u32) -> Result<u32, String> {
    let value = value.ok_or_else(|| format!("{flag} needs a number"))?;
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{flag} must be a whole number from {least} to {most}, not {value:?}")),
    }
}
