using System;
using System.Diagnostics;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading;
using System.Threading.Tasks;
using Newtonsoft.Json.Linq;

namespace Graycat
{
    /// <summary>A player's short-lived token, from the game's own server (token_server.py), renewed before it ends.</summary>
    /// <remarks>No key of graycat's is in the game: the game's server has it, and knows the player by its own session.</remarks>
    public sealed class PlayerTokens : IDisposable
    {
        static readonly TimeSpan Early = TimeSpan.FromSeconds(30);

        readonly HttpClient http = new HttpClient { Timeout = TimeSpan.FromSeconds(20) };
        readonly SemaphoreSlim one = new SemaphoreSlim(1, 1);
        readonly Uri address;
        readonly string session;
        Stopwatch age;
        TimeSpan lives;
        string current;

        /// <param name="address">Where the game's server mints tokens, such as https://game.example/token.</param>
        /// <param name="session">What that server knows this player by.</param>
        public PlayerTokens(string address, string session)
        {
            this.address = GraycatClient.Address(address);
            this.session = session;
        }

        /// <summary>Return a token; a new one if this was refused, or is about to end. A <see cref="TokenProvider"/>.</summary>
        public async Task<string> GetAsync(bool refused, CancellationToken cancel)
        {
            await one.WaitAsync(cancel);
            try
            {
                // Its age is measured here: a player's clock may be wrong.
                if (refused || current == null || age.Elapsed > lives - Early) await MintAsync(cancel);
                return current;
            }
            finally
            {
                one.Release();
            }
        }

        async Task MintAsync(CancellationToken cancel)
        {
            var request = new HttpRequestMessage(HttpMethod.Post, address) { Content = new StringContent("") };
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", session);
            try
            {
                using (var response = await http.SendAsync(request, cancel))
                {
                    if (!response.IsSuccessStatusCode) throw await GraycatError.ReadAsync(response);
                    var minted = JObject.Parse(await response.Content.ReadAsStringAsync());
                    current = (string)minted["token"];
                    lives = TimeSpan.FromSeconds((double)minted["expires_in_s"]);
                    age = Stopwatch.StartNew();
                }
            }
            catch (HttpRequestException error)
            {
                throw GraycatError.Lost(address, error);
            }
            catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
            {
                throw GraycatError.Lost($"{address.GetLeftPart(UriPartial.Authority)} does not answer");
            }
        }

        public void Dispose()
        {
            http.Dispose();
        }
    }
}
