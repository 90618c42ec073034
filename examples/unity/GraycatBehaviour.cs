using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Newtonsoft.Json.Linq;
using UnityEngine;

namespace Graycat
{
    /// <summary>A character that answers through graycat, as a component. Subscribe to its events; call Ask and Stop.</summary>
    /// <remarks>All events come on Unity's main thread, as long as Ask is called there.</remarks>
    public class GraycatBehaviour : MonoBehaviour
    {
        [Tooltip("graycat's address, such as https://play.example")]
        public string server = "http://127.0.0.1:8000";

        [Tooltip("where your own server mints players' tokens")]
        public string tokenServer = "http://127.0.0.1:8070/token";

        [TextArea(3, 10)]
        public string systemPrompt = "You are the innkeeper. Answer in one or two sentences.";

        public int maxTokens = 128;

        /// <summary>A piece of the answer.</summary>
        public event Action<string> Text;

        /// <summary>The answer is over, whole or stopped.</summary>
        public event Action Done;

        /// <summary>A sentence for the player. The whole error is in the log.</summary>
        public event Action<string> Failed;

        readonly List<JObject> history = new List<JObject>();
        PlayerTokens tokens;
        GraycatClient client;
        CancellationTokenSource running;

        /// <summary>Call it once the player is logged in, with what your own server knows the player by.</summary>
        public void Connect(string session)
        {
            OnDestroy();
            tokens = new PlayerTokens(tokenServer, session);
            client = new GraycatClient(server, tokens.GetAsync);
        }

        /// <summary>Instead of Connect, for a first try without a server of your own: with an API token.</summary>
        /// <remarks>Never in a build: a key inside of it is everybody's.</remarks>
        public void ConnectWithToken(string token)
        {
            OnDestroy();
            tokens = null;
            client = new GraycatClient(server, (refused, cancel) => Task.FromResult(token));
        }

        /// <summary>Say something; what was being answered is stopped.</summary>
        public async void Ask(string text)
        {
            if (client == null) throw new InvalidOperationException("call Connect or ConnectWithToken before Ask");
            Stop();
            var mine = running = new CancellationTokenSource();
            var question = GraycatClient.Message("user", text);
            history.Add(question);
            var answer = "";
            try
            {
                await client.ChatAsync(Request(), piece => { answer += piece; Text?.Invoke(piece); }, mine.Token);
                Done?.Invoke();
            }
            catch (OperationCanceledException)
            {
                Done?.Invoke();
            }
            catch (GraycatError error)
            {
                Debug.LogWarning($"graycat: {error.Status} {error.Type}: {error.Message}");
                Failed?.Invoke(ForPlayer(error));
            }
            finally
            {
                Remember(question, answer);
                mine.Dispose();
                if (running == mine) running = null;
            }
        }

        /// <summary>Stop the answer. The model stops within a second.</summary>
        public void Stop()
        {
            running?.Cancel();
        }

        void OnDestroy()
        {
            Stop();
            client?.Dispose();
            tokens?.Dispose();
        }

        JObject Request()
        {
            var messages = new JArray(GraycatClient.Message("system", systemPrompt));
            foreach (var message in history) messages.Add(message);
            return new JObject { ["messages"] = messages, ["max_tokens"] = maxTokens };
        }

        /// <summary>Keep what was said, also of an answer that broke off; a question without any answer is forgotten.</summary>
        void Remember(JObject question, string answer)
        {
            // The next question may be there already.
            var place = history.IndexOf(question);
            if (answer.Length > 0) history.Insert(place + 1, GraycatClient.Message("assistant", answer));
            else history.RemoveAt(place);
        }

        /// <summary>Return what to show for an error (docs/unity.md).</summary>
        public static string ForPlayer(GraycatError error)
        {
            switch (error.Status)
            {
                case 0: return "The connection was lost. Try again.";
                case 401: return "Please log in again.";
                case 429: return "You are quick! Wait a moment.";
                case 502: case 503: case 504: return "The innkeeper is busy. Try again in a moment.";
                default: return "Something went wrong.";
            }
        }
    }
}
