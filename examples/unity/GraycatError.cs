using System;
using System.Net.Http;
using System.Threading.Tasks;
using Newtonsoft.Json;
using Newtonsoft.Json.Linq;

namespace Graycat
{
    /// <summary>What graycat, a proxy before it, or the network answered instead of what was asked for.</summary>
    /// <remarks>docs/errors.md lists every <see cref="Type"/>. Switch on it; the message is for people.</remarks>
    public sealed class GraycatError : Exception
    {
        /// <summary>The line was lost: no answer came, or one broke off. No server has this type.</summary>
        public const string ConnectionLost = "connection_lost";

        /// <summary>The HTTP status, also of an error that came inside of a stream; 0 if the line was lost.</summary>
        public int Status { get; }

        /// <summary>A stable word such as <c>limit_exceeded</c>.</summary>
        public string Type { get; }

        /// <summary>When trying again can help; null: waiting does not help, or nobody knows.</summary>
        public TimeSpan? RetryAfter { get; }

        public GraycatError(int status, string type, string message, TimeSpan? retryAfter = null) : base(message)
        {
            Status = status;
            Type = type;
            RetryAfter = retryAfter;
        }

        /// <summary>Return the error of a lost line.</summary>
        public static GraycatError Lost(string message)
        {
            return new GraycatError(0, ConnectionLost, message);
        }

        /// <summary>Return the error of a server that could not be asked.</summary>
        public static GraycatError Lost(Uri server, HttpRequestException error)
        {
            return Lost($"{server.GetLeftPart(UriPartial.Authority)} does not answer: {(error.InnerException ?? error).Message}");
        }

        /// <summary>Return the error that an answer's <c>error</c> object tells; <paramref name="status"/> if it has none.</summary>
        public static GraycatError From(JToken error, int status = 500, TimeSpan? retryAfter = null)
        {
            var fields = error as JObject ?? new JObject();
            var code = fields["code"];
            if (code != null && code.Type == JTokenType.Integer) status = (int)code;
            return new GraycatError(status, Text(fields["type"], "server_error"), Text(fields["message"], "no reason was given"), retryAfter);
        }

        /// <summary>Return the error of an HTTP answer, whoever has written its body.</summary>
        public static async Task<GraycatError> ReadAsync(HttpResponseMessage response)
        {
            var status = (int)response.StatusCode;
            var body = response.Content == null ? "" : await response.Content.ReadAsStringAsync();
            JToken error = null;
            try
            {
                error = (JToken.Parse(body) as JObject)?["error"];
            }
            catch (JsonException)
            {
                // A page of a proxy.
            }
            return From(error ?? new JObject { ["message"] = $"HTTP {status}" }, status, response.Headers.RetryAfter?.Delta);
        }

        static string Text(JToken value, string otherwise)
        {
            return value != null && value.Type == JTokenType.String ? (string)value : otherwise;
        }
    }
}
