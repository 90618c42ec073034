using System;
using System.Diagnostics;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Newtonsoft.Json.Linq;

namespace Graycat
{
    /// <summary>Returns the API token to send. <paramref name="refused"/>: the last one was refused, so get a new one.</summary>
    public delegate Task<string> TokenProvider(bool refused, CancellationToken cancel);

    /// <summary>A game's calls to graycat: chats that stream, images, and what to do when something goes wrong.</summary>
    /// <remarks>
    /// It has no type of Unity's, so that it can be tested without. Awaits keep the caller's context: called from Unity's main
    /// thread, callbacks come there. One client serves a whole game. Not for WebGL, where System.Net does not work.
    /// </remarks>
    public sealed partial class GraycatClient : IDisposable
    {
        readonly HttpClient http = new HttpClient { Timeout = Timeout.InfiniteTimeSpan };
        readonly Uri server;
        readonly TokenProvider token;

        /// <summary>For how long a call that was refused (429, 503) or did not get through is tried again.</summary>
        public TimeSpan Patience { get; set; } = TimeSpan.FromSeconds(30);

        /// <summary>How long nothing may come before the line counts as lost.</summary>
        public TimeSpan Silence { get; set; } = TimeSpan.FromSeconds(30);

        /// <param name="server">graycat's address, such as https://play.example or http://127.0.0.1:8000.</param>
        /// <param name="token">See <see cref="PlayerTokens"/>; a fixed one is <c>(refused, cancel) =&gt; Task.FromResult("gp_...")</c>.</param>
        public GraycatClient(string server, TokenProvider token)
        {
            this.server = Address(server.TrimEnd('/') + "/");
            this.token = token;
            http.DefaultRequestHeaders.ExpectContinue = false;
        }

        /// <summary>Return an address that was typed by hand. Throws ArgumentException if it is none.</summary>
        internal static Uri Address(string typed)
        {
            Uri address;
            if (Uri.TryCreate(typed, UriKind.Absolute, out address) && address.Scheme.StartsWith("http", StringComparison.Ordinal)) return address;
            throw new ArgumentException($"'{typed}' is no address: write http://HOST:PORT, or https://HOST");
        }

        /// <summary>Return the answer to a chat, piece by piece to <paramref name="onText"/>, whole at the end.</summary>
        /// <param name="request">The body of /v1/chat/completions: <c>messages</c>, <c>max_tokens</c>, <c>temperature</c>, ...</param>
        /// <param name="cancel">Closes the connection: graycat then stops the model within a second.</param>
        /// <exception cref="GraycatError">It was refused, or broke off. Pieces that came stay with the caller; nothing is sent twice.</exception>
        public async Task<string> ChatAsync(JObject request, Action<string> onText, CancellationToken cancel)
        {
            var body = (JObject)request.DeepClone();
            body["stream"] = true;
            var whole = new StringBuilder();
            var response = await SendAsync(() => NewPost("v1/chat/completions", body), Silence, cancel);
            using (var events = new EventReader(response, Silence, cancel))
            {
                ServerEvent next;
                while ((next = await events.NextAsync()) != null)
                {
                    if (next.Data == "[DONE]") return whole.ToString();
                    var text = TextOf(JObject.Parse(next.Data));
                    if (text.Length == 0) continue;
                    whole.Append(text);
                    onText?.Invoke(text);
                }
            }
            throw GraycatError.Lost("the answer broke off");
        }

        static string TextOf(JObject chunk)
        {
            if (chunk["error"] != null) throw GraycatError.From(chunk["error"]);
            var choices = chunk["choices"] as JArray;
            if (choices == null || choices.Count == 0) return "";
            return (string)choices[0]["delta"]?["content"] ?? "";
        }

        /// <summary>Return one message of a chat.</summary>
        public static JObject Message(string role, string content)
        {
            return new JObject { ["role"] = role, ["content"] = content };
        }

        HttpRequestMessage NewPost(string path, JObject body)
        {
            var content = new StringContent(body.ToString(Newtonsoft.Json.Formatting.None), Encoding.UTF8, "application/json");
            return new HttpRequestMessage(HttpMethod.Post, new Uri(server, path)) { Content = content };
        }

        /// <summary>Return the answer once its head is there; try again while that can help.</summary>
        async Task<HttpResponseMessage> SendAsync(Func<HttpRequestMessage> create, TimeSpan within, CancellationToken cancel)
        {
            var watch = Stopwatch.StartNew();
            var refused = false;
            for (var attempt = 0; ; attempt++)
            {
                var outcome = await TryAsync(create(), refused, within, cancel);
                if (outcome.Response != null) return outcome.Response;
                if (outcome.Error.Status == 401 && !refused)
                {
                    refused = true;
                    continue;
                }
                var pause = PauseBefore(outcome.Error, attempt);
                if (pause == null || watch.Elapsed + pause.Value > Patience) throw outcome.Error;
                await Task.Delay(pause.Value, cancel);
            }
        }

        struct Outcome
        {
            public HttpResponseMessage Response;
            public GraycatError Error;
        }

        async Task<Outcome> TryAsync(HttpRequestMessage request, bool refused, TimeSpan within, CancellationToken cancel)
        {
            using (var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel))
            {
                try
                {
                    request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", await token(refused, cancel));
                    limit.CancelAfter(within);
                    var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, limit.Token);
                    if (response.IsSuccessStatusCode) return new Outcome { Response = response };
                    using (response) return new Outcome { Error = await GraycatError.ReadAsync(response) };
                }
                catch (GraycatError error)
                {
                    return new Outcome { Error = error }; // Of the game's own server: no token.
                }
                catch (HttpRequestException error)
                {
                    return new Outcome { Error = GraycatError.Lost(server, error) };
                }
                catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
                {
                    return new Outcome { Error = GraycatError.Lost($"no answer within {within.TotalSeconds:0} s") };
                }
            }
        }

        /// <summary>Return how long to wait before the same is sent again; null: it would not help.</summary>
        static TimeSpan? PauseBefore(GraycatError error, int attempt)
        {
            if (error.Type == GraycatError.ConnectionLost) return TimeSpan.FromSeconds(Math.Min(0.5 * Math.Pow(2, attempt), 5));
            return error.Status == 429 || error.Status == 502 || error.Status == 503 ? error.RetryAfter : null;
        }

        /// <summary>Return what a read brings; close the connection if nothing comes in time, or the caller wants no more.</summary>
        internal static async Task<T> WithinAsync<T>(Task<T> read, TimeSpan limit, HttpResponseMessage response, CancellationToken cancel)
        {
            using (var timer = CancellationTokenSource.CreateLinkedTokenSource(cancel))
            {
                if (await Task.WhenAny(read, Task.Delay(limit, timer.Token)) == read)
                {
                    timer.Cancel();
                    return await read;
                }
            }
            // The read ends with an error that nobody needs.
            _ = read.ContinueWith(left => left.Exception, TaskContinuationOptions.OnlyOnFaulted);
            response.Dispose();
            cancel.ThrowIfCancellationRequested();
            throw GraycatError.Lost($"nothing came for {limit.TotalSeconds:0} s");
        }

        public void Dispose()
        {
            http.Dispose();
        }
    }
}
