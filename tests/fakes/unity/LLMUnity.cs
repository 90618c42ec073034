// The few names of "LLM for Unity" that docs/unity.md uses: the first component is version 2.5.2's, the second 3.0.3's.
using System.Collections.Generic;

namespace LLMUnity
{
    public class LLMCharacter
    {
        public string APIKey;
        protected List<(string, string)> requestHeaders = new List<(string, string)>();
    }

    public class ChatMessage
    {
    }

    public class LLMAgent
    {
        public string APIKey { get; set; }
        public List<ChatMessage> chat { get; set; }
    }
}
