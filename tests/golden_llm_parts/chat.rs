//! Rendered chats and their ids, as the fixtures have them.

use crate::FIXTURES;
use mdlm::Tokenizer;
use mdlm::data::{ChatTemplate, Message};
use serde_json::{Map, Value};

fn messages(json: &Value) -> Vec<Message> {
    serde_json::from_value(json.clone()).unwrap()
}

fn ids(json: &Value) -> Vec<u32> {
    serde_json::from_value(json.clone()).unwrap()
}

#[test]
fn chats_are_rendered_and_encoded() {
    let Some(json) = FIXTURES.describe("tokenizers") else {
        return;
    };
    let mut chats = 0;
    for (model, of_model) in json["models"].as_object().unwrap() {
        let Some(dir) = FIXTURES.folder_of(model) else {
            return;
        };
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json")).unwrap();
        let template = ChatTemplate::read(&dir).unwrap();
        let Some(chat) = of_model["chat"].as_array() else {
            assert!(template.is_none(), "{model}");
            continue;
        };
        let template = template.unwrap();
        for chat in chat {
            let more = chat["kwargs"].as_object().cloned().unwrap_or_else(Map::new);
            let reply = chat["add_generation_prompt"].as_bool().unwrap();
            let text = template
                .render(&messages(&chat["messages"]), reply, &more)
                .unwrap();
            assert_eq!(text, chat["text"].as_str().unwrap(), "{model}");
            assert_eq!(
                tokenizer.encode_marked(&text).unwrap(),
                ids(&chat["ids"]),
                "{model}"
            );
            chats += 1;
        }
        // texts whose special tokens are written out, the mask apart
        for text in of_model["encode"].as_array().unwrap() {
            let (plain, expected) = (
                text["text"].as_str().unwrap(),
                ids(&text["ids_without_added_specials"]),
            );
            match tokenizer.encode_marked(plain) {
                Ok(found) => assert_eq!(found, expected, "{model}: {plain}"),
                Err(_) => assert!(
                    expected.contains(&tokenizer.mask_index()),
                    "{model}: {plain}"
                ),
            }
        }
    }
    assert!(chats >= 12, "{chats} chats");
}
