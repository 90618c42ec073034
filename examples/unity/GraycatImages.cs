using System;
using System.Diagnostics;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using Newtonsoft.Json.Linq;

namespace Graycat
{
    public sealed partial class GraycatClient
    {
        /// <summary>Return the bytes of an image (PNG), made as a task: it survives a lost line and tells its progress.</summary>
        /// <param name="input">Fields of txt2img: <c>prompt</c>, <c>width</c>, <c>height</c>, <c>steps</c>, ...</param>
        /// <param name="onProgress">Gets 0 to 1 while the image is rendered.</param>
        /// <param name="cancel">Cancels the task, too.</param>
        public async Task<byte[]> ImageAsync(JObject input, Action<float> onProgress, CancellationToken cancel)
        {
            // The same key is the same task, so an answer that got lost costs nothing.
            var key = Guid.NewGuid().ToString("N");
            var body = new JObject { ["kind"] = "sd.txt2img", ["input"] = input };
            var task = await SendJsonAsync(() =>
            {
                var request = NewPost("tasks", body);
                request.Headers.Add("Idempotency-Key", key);
                return request;
            }, Silence, cancel);
            var path = "tasks/" + (string)task["id"];
            try
            {
                await FollowAsync(path, onProgress, cancel);
                return await GetBytesAsync(path + "/images/0", cancel);
            }
            catch (OperationCanceledException)
            {
                await SendJsonAsync(() => new HttpRequestMessage(HttpMethod.Delete, new Uri(server, path)), Silence, CancellationToken.None);
                throw;
            }
        }

        /// <summary>Return the bytes of an image from one call, /generate-image; simple, without progress.</summary>
        /// <param name="within">How long it may take, its turn in the queue included.</param>
        public async Task<byte[]> GenerateImageAsync(JObject input, TimeSpan within, CancellationToken cancel)
        {
            var answer = await SendJsonAsync(() => NewPost("generate-image", input), within, cancel);
            return Convert.FromBase64String((string)answer["image_base64"]);
        }

        /// <summary>Read a task's events to its end, over as many connections as that takes.</summary>
        async Task FollowAsync(string path, Action<float> onProgress, CancellationToken cancel)
        {
            var last = "";
            var lost = Stopwatch.StartNew();
            while (true)
            {
                try
                {
                    var response = await SendAsync(() => NewEvents(path, last), Silence, cancel);
                    using (var events = new EventReader(response, Silence, cancel))
                    {
                        ServerEvent next;
                        while ((next = await events.NextAsync()) != null)
                        {
                            lost.Restart();
                            if (next.Id.Length > 0) last = next.Id;
                            if (IsEnd(next, onProgress)) return;
                        }
                    }
                }
                catch (GraycatError error) when (error.Type == GraycatError.ConnectionLost && lost.Elapsed < Patience)
                {
                    // The task goes on; ask for what came since.
                }
                await Task.Delay(TimeSpan.FromSeconds(0.5), cancel);
                if (lost.Elapsed > Patience) throw GraycatError.Lost("the task's events do not come any more");
            }
        }

        HttpRequestMessage NewEvents(string path, string last)
        {
            var request = new HttpRequestMessage(HttpMethod.Get, new Uri(server, path + "/events"));
            if (last.Length > 0) request.Headers.Add("Last-Event-ID", last);
            return request;
        }

        static bool IsEnd(ServerEvent told, Action<float> onProgress)
        {
            var data = JObject.Parse(told.Data);
            switch (told.Name)
            {
                case "progress":
                    onProgress?.Invoke((float)data["progress"]);
                    return false;
                case "result":
                    return true;
                case "error":
                    throw GraycatError.From(data["error"] ?? data);
                case "cancelled":
                    throw new GraycatError(499, "task_cancelled", "the task was cancelled");
                default:
                    return false; // Later versions may send other events.
            }
        }

        async Task<JObject> SendJsonAsync(Func<HttpRequestMessage> create, TimeSpan within, CancellationToken cancel)
        {
            using (var response = await SendAsync(create, within, cancel))
            {
                return JObject.Parse(await WithinAsync(response.Content.ReadAsStringAsync(), within, response, cancel));
            }
        }

        async Task<byte[]> GetBytesAsync(string path, CancellationToken cancel)
        {
            var within = Silence;
            using (var response = await SendAsync(() => new HttpRequestMessage(HttpMethod.Get, new Uri(server, path)), within, cancel))
            {
                return await WithinAsync(response.Content.ReadAsByteArrayAsync(), within, response, cancel);
            }
        }
    }
}
