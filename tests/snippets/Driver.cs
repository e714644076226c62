using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;

public static class Driver
{
    public static void Main()
    {
        string line;
        while ((line = Console.ReadLine()) != null)
        {
            byte[][] fields = line.Split(' ').Select(Convert.FromBase64String).ToArray();
            string[] texts = fields.Select(Encoding.UTF8.GetString).ToArray();
            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            foreach (string field in texts[5].Split('\n'))
            {
                int colon = field.IndexOf(": ", StringComparison.Ordinal);
                headers[field.Substring(0, colon)] = field.Substring(colon + 2);
            }
            Func<string, string> header =
                name => headers.TryGetValue(name, out string value) ? value : null;
            bool genuine = Signalpost.IsGenuine(
                Signalpost.KeyOf(texts[0]), texts[1], texts[2], header, fields[4],
                DateTimeOffset.Parse(texts[3], CultureInfo.InvariantCulture));
            Console.WriteLine(genuine ? "true" : "false");
        }
    }
}
