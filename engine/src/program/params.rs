//! Parameters of a kernel: one struct gives the words of the uniform and its type in WGSL.

use bytemuck::Pod;

/// A kernel's parameters, declared by [`crate::params!`].
pub trait Words: Pod {
    /// The struct as the kernel declares it, under the name `Params`.
    const WGSL: &'static str;

    /// Its words in the uniform, whose size is a multiple of 16 bytes.
    fn words(&self) -> Vec<u32> {
        let mut words = bytemuck::cast_slice::<Self, u32>(std::slice::from_ref(self)).to_vec();
        words.resize(words.len().next_multiple_of(4), 0);
        words
    }
}

/// Declares the parameters of a kernel: a struct of u32 and f32 fields that implements [`Words`]. Its
/// shader names the place of the declaration by `//#params`.
#[macro_export]
#[doc(hidden)]
macro_rules! params {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        $vis struct $name { $($(#[$field_doc])* $vis $field: $type,)* }

        impl $crate::program::Words for $name {
            const WGSL: &'static str = concat!(
                "struct Params {\n",
                $("  ", stringify!($field), ": ", stringify!($type), ",\n",)*
                "}\n"
            );
        }
    };
}

#[cfg(test)]
mod tests {
    use super::Words;

    crate::params! {
        struct Two { n: u32, scale: f32, }
    }

    #[test]
    fn one_declaration_gives_words_and_wgsl() {
        let two = Two { n: 3, scale: 0.5 };
        assert_eq!(two.words(), [3, 0.5f32.to_bits(), 0, 0]);
        assert_eq!(Two::WGSL, "struct Params {\n  n: u32,\n  scale: f32,\n}\n");
    }
}
