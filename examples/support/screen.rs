//! Text that emerges from masks, in a terminal.

use std::io::Write;

use mdlm::{Canvas, StepReport, Tokenizer};

/// Terminal colour of a probability, from orange (unsure) to blue (sure).
fn colour(probability: f64) -> u8 {
    const RAMP: [u8; 5] = [208, 222, 253, 117, 39];
    RAMP[(probability * 5.0).clamp(0.0, 4.0) as usize]
}

/// Draws a canvas over the previous picture of it: dark is masked, the terminal's own colour is
/// frozen, colours tell how sure the model was.
pub struct Screen {
    probability: Vec<f64>,
    /// What stands before is not shown.
    from: usize,
    rows: usize,
}

impl Screen {
    /// Before the first step of a canvas of `length` positions.
    pub fn new(length: usize) -> Self {
        Self::behind(length, 0)
    }

    /// Of what stands behind the first `from` positions.
    pub fn behind(length: usize, from: usize) -> Self {
        Self {
            probability: vec![1.0; length],
            from,
            rows: 0,
        }
    }

    /// Takes the picture away.
    pub fn clear(&mut self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        write!(out, "{}", self.up())?;
        self.rows = 0;
        out.flush()
    }

    fn up(&self) -> String {
        match self.rows {
            0 => String::new(),
            rows => format!("\x1b[{rows}A\r\x1b[J"),
        }
    }

    /// Shows the first canvas of a batch as `report` has left it.
    pub fn show(
        &mut self,
        canvas: &Canvas,
        tokenizer: &Tokenizer,
        report: &StepReport,
    ) -> std::io::Result<()> {
        for r in report.revealed.iter().filter(|r| r.canvas == 0) {
            self.probability[r.position] = r.probability;
        }
        const WIDTH: usize = 88;
        let (mut text, mut column, mut rows) = (String::new(), 0, 1);
        let tokens = canvas.tokens(tokenizer.mask_index());
        let pieces = tokenizer.pieces(&tokens);
        // behind the last token of the text, ends say nothing
        let special = [tokenizer.bos(), tokenizer.eos()];
        let text_at =
            |i: usize| !special.contains(&tokens[i]) && Some(tokens[i]) != tokenizer.pad();
        let first = (0..canvas.len()).find(|&i| text_at(i)).unwrap_or(0);
        let last = (0..canvas.len()).rfind(|&i| text_at(i)).unwrap_or(0);
        for (i, piece) in pieces.into_iter().enumerate().skip(self.from) {
            let piece = match canvas.token(i) {
                Some(id) if special.contains(&id) && (first..last).contains(&i) => " ∎ ".to_owned(),
                Some(_) => piece.replace(['\n', '\r'], "⏎"),
                None => " ░".to_owned(),
            };
            let width = piece.chars().count();
            if column + width > WIDTH {
                text.push_str("\x1b[0m\n");
                (column, rows) = (0, rows + 1);
            }
            column += width;
            let code = match canvas.token(i) {
                None => "\x1b[38;5;240m".to_owned(),
                Some(_) if canvas.is_frozen(i) => "\x1b[0m".to_owned(),
                Some(_) => format!("\x1b[38;5;{}m", colour(self.probability[i])),
            };
            text += &format!("{code}{piece}");
        }
        let up = self.up();
        let StepReport {
            step,
            masked,
            network_calls,
            ..
        } = report;
        let of = match report.steps {
            0 => String::new(),
            steps => format!("/{steps}"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{up}{text}\x1b[0m\nstep {step}{of}, {masked} masked, {network_calls} network calls"
        )?;
        self.rows = rows + 1;
        out.flush()
    }
}
