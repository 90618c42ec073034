using System;
using System.IO;
using System.Net.Http;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Graycat
{
    /// <summary>One server-sent event.</summary>
    public sealed class ServerEvent
    {
        public string Id = "";
        public string Name = "";
        public string Data = "";
    }

    /// <summary>Reads the server-sent events of one answer. Dispose it to close the connection: graycat then stops the work.</summary>
    public sealed class EventReader : IDisposable
    {
        readonly HttpResponseMessage response;
        readonly TimeSpan silence;
        readonly CancellationToken cancel;
        StreamReader lines;

        /// <param name="silence">How long nothing may come. graycat sends a comment every GRAYCAT_KEEPALIVE_S (5 s).</param>
        public EventReader(HttpResponseMessage response, TimeSpan silence, CancellationToken cancel)
        {
            this.response = response;
            this.silence = silence;
            this.cancel = cancel;
        }

        /// <summary>Return the next event; null at the end. Throws GraycatError if the line is lost or silent.</summary>
        public async Task<ServerEvent> NextAsync()
        {
            if (lines == null) lines = new StreamReader(await response.Content.ReadAsStreamAsync(), Encoding.UTF8);
            var found = new ServerEvent();
            var data = new StringBuilder();
            while (true)
            {
                var line = await ReadLineAsync();
                if (line == null) return null;
                if (line.Length == 0 && data.Length > 0)
                {
                    found.Data = data.ToString(0, data.Length - 1);
                    return found;
                }
                Take(line, found, data);
            }
        }

        static void Take(string line, ServerEvent found, StringBuilder data)
        {
            var colon = line.IndexOf(':');
            if (colon <= 0) return; // A comment, or the blank line behind one.
            var value = line.Substring(colon + 1);
            if (value.StartsWith(" ", StringComparison.Ordinal)) value = value.Substring(1);
            switch (line.Substring(0, colon))
            {
                case "data": data.Append(value).Append('\n'); break;
                case "event": found.Name = value; break;
                case "id": found.Id = value; break;
            }
        }

        async Task<string> ReadLineAsync()
        {
            try
            {
                return await GraycatClient.WithinAsync(lines.ReadLineAsync(), silence, response, cancel);
            }
            catch (Exception error) when (error is IOException || error is ObjectDisposedException || error is System.Net.WebException)
            {
                throw GraycatError.Lost(error.Message);
            }
        }

        public void Dispose()
        {
            response.Dispose();
        }
    }
}
