"""The words by which the sandbox reads a mail. English only; the rules are plain on purpose."""

WORDS: dict[str, str] = {
    "spam": """viagra cialis pills pharmacy lbs diet fat slim hgh hormone herbal aging erection
        penis enlarge enlargement breast xxx porn sex adult singles horny nude casino gambling
        jackpot lottery winner winners won prize prizes cash income earn earnings millionaire
        millions rich wealth mlm wholesale guaranteed guarantee refinance mortgage mortgages
        lenders lender debt debts bankruptcy insurance quotes toner bulk mailings unsolicited
        beneficiary kin nigeria deceased barrister confidential dollars usd offshore viagra
        removed remove obligation sweepstakes miracle secrets amazing incredible investors
        congratulations stock undervalued diploma degrees cable descrambler leads webcam girls
        hot teens lesbo sluts striptease playboy dating approved loan loans rates commissions
        commission opportunity smokes cigarettes merchant satisfy free instantly unlimited
        millionaires prizes earning wealthy cellular adv advertisement""",
    "newsletter": """newsletter newsletters issue digest weekly daily edition subscribe subscribed
        unsubscribe subscriber subscribers subscription headlines archives editor editors columns
        roundup bulletin webmaster publication""",
    "promotional": """sale discount discounts offer offers coupon deal deals save savings shop
        shopping gift gifts promo promotion clearance bargain price prices shipping catalog
        rebate bonus membership exclusive""",
    "financial": """invoice invoices payment payments bank banking statement balance tax taxes
        refund payroll budget expense expenses loan salary accounting billing paypal wire""",
    "transactional": """order orders ordered receipt shipped tracking delivery confirmation booking
        reservation itinerary ticket tickets purchase purchased password verify verification
        activate activation registration account""",
    "notification": """alert alerts notification notifications reminder bug bugzilla ticket
        resolved commented posted updated build failed url:""",
    "system": """undeliverable undelivered returned daemon postmaster cron logwatch quota backup
        disk rejected bounced""",
    "social": """party birthday wedding invitation invited friends friend beer pub dinner lunch
        concert linkedin facebook twitter pictures photos""",
    "work": """meeting project deadline schedule patch code server servers release report client
        conference proposal team agenda review kernel install installed package packages rpm
        config configuration script scripts compile version perl python linux debian redhat
        network module modules database software bug test tests cvs workstation driver drivers""",
    "personal": """mom dad family weekend holiday vacation kids wife husband love hey thanks cheers
        hope hi fun laugh lol house home friend""",
    "important": """contract legal agreement approval board important confidential security
        attorney visa passport hospital""",
    "urgent": """urgent urgently asap immediately emergency outage critical deadline""",
    "positive": """thanks thank great good glad happy excellent love nice wonderful appreciate
        pleased enjoy excited perfect congratulations welcome best cheers awesome cool""",
    "negative": """problem problems sorry bad unfortunately fail failed failure error errors wrong
        hate angry complaint terrible awful broken disappointed crash worse worst sad lost stupid
        annoying attack killed war died""",
    "cold": """introduce representing outreach prospects partnership""",
}
"""A word counts once for each of its subjects, and twice where it stands in the subject line."""

PHRASES: dict[str, str] = {
    "spam": """click here|click below|money back|work from home|no obligation|risk free|act now
        |million dollars|us dollars|to be removed|be removed|opt out|opt in|special offer|order now
        |extra income|financial freedom|no cost|call now|credit card|credit report|low rates
        |interest rate|lose weight|weight loss|web site promotion|million email|email addresses
        |this is not spam|one time mailing|apply now|free trial|limited time|100 free|for free
        |strictly confidential|bank account|transfer of|next of kin|business proposal|dear friend
        |toll free|your own business|make money|at no|satisfaction|visit our|your computer
        |life insurance|hot stock|have been selected|dear sir|your family|norton systemworks""",
    "newsletter": """view in browser|to unsubscribe|this week|in this issue|to subscribe
        |you are receiving this|sent to you because|update your preferences|all rights reserved
        |manage your subscription|newsletter is""",
    "promotional": """free shipping|limited time|percent off|buy now|shop now|special offer|save up
        |order today|while supplies last""",
    "notification": """has commented|has been assigned|supplied |new comment|log in to view
        |this is an automated|automatically generated|do not reply""",
    "transactional": """your order|your account|your purchase|has shipped|order number
        |confirm your|your subscription|your registration""",
    "system": """delivery failed|delivery status|mail delivery|returned mail|undelivered mail
        |out of office|cron daemon""",
    "urgent": """action required|as soon as possible|right away|by tomorrow|final notice
        |time sensitive|without delay""",
    "cold": """quick call|reaching out|came across your|book a demo|would you be interested
        |link exchange|business proposal|your assistance|introduce myself|my name is|15 minutes
        |partner with|our company|we offer|our services|we specialize|increase your""",
    "asks": """could you|can you|would you|let me know|please confirm|what do you think|any idea
        |does anyone|anyone know|how do i|is there a|do you have|do you know|please reply|can i
        |please advise|get back to me|any suggestions|is it possible|please send""",
    "acts": """please review|please send|please sign|please approve|please confirm|please pay
        |action required|due by|due on|deadline|need you to|please complete|please check
        |please update|you need to|please fix|you must""",
}
"""Phrases separated by `|`, in lower case, looked for in the words of the mail joined by spaces."""

MACHINE_SENDERS = (
    *("noreply", "no-reply", "donotreply", "do-not-reply", "mailer-daemon", "postmaster"),
    *("notification", "newsletter", "rssfeeds", "cron", "bounce", "alerts@", "root@", "updates@"),
    *("mailing", "listserv", "digest", "announce", "online#", "support@", "info@", "news@"),
)
"""Parts of an address that say that no person wrote."""
